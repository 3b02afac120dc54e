"""An application whose client has gone while it runs is not disturbed by that."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE, Gate, serving

APP = """
import os, sys

def app(environ, start):
    entered, leave = map(int, os.environ["GATE"].split(","))
    os.write(entered, b".")
    os.read(leave, 1)
    body = environ["wsgi.input"].read()
    print("read", len(body), file=sys.stderr, flush=True)
    start("200 OK", [])
    return [body]
"""


@pytest.mark.parametrize("size", [5, 2_000_000], ids=["in memory", "in a file"])
def test_a_body_that_has_come_stays_readable_though_its_client_goes(size: int, tmp_path: Path) -> None:
    (tmp_path / "gated_app.py").write_text(APP)
    gate = Gate()
    with serving(["--backend", "threads", "--threads", "2", "gated_app:app"], folder=tmp_path, gate=gate) as worker:
        with socket.create_connection(worker.address, PATIENCE) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + size * b"x")
            gate.entered()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Once another connection was taken and closed, the loop has seen the reset too.
        assert b" 400 " in worker.raw(b"no request\r\n\r\n")
        gate.open()
        worker.await_line(f"read {size}")
    gate.close()
