"""Good reloads under load: each brings in new code, and nobody waits for it."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

from forkserve.control.client import ControlClient
from forkserve.supervision.os.loop import LIMIT
from tests.soak.row import Result, Scale
from tests.soak.witness import added_waits, witnessing
from tests.support.forkserving import Forkserve, eventually, running
from tests.support.load import Load

__all__ = ["HELD", "ask", "reloads", "serves", "stack", "write"]

HELD = "0.5"
"""Seconds that the loop may be held: a virtual machine that is busy for an hour holds it for more than in a test."""
PAUSE = 0.004
"""Seconds that a client rests, so that the clients do not keep the processors busy by themselves."""

WSGI = """
import time
time.sleep({seconds})
BODY = b"hello {version}"
def app(environ, start):
    start("200 OK", [("Content-Length", str(len(BODY)))])
    return [BODY]
"""
ASGI = """
import time
time.sleep({seconds})
BODY = b"hello {version}"
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-length", b"%d" % len(BODY))]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": BODY}})
"""
STACK = """
[socket:web]
port = 0
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) -k {backend} soaked:app
use_sockets = True
copy_env = True
preload = {preload}
numprocesses = 2
graceful_timeout = 10
"""


def stack(backend: str, *, preload: bool) -> str:
    """Return a configuration of two workers on one socket."""
    return STACK.format(backend=backend, preload=preload)


def write(folder: Path, backend: str, version: int, seconds: float) -> None:
    """Replace the application by that version, which takes so many seconds to import."""
    text = (ASGI if backend == "asgi" else WSGI).format(version=version, seconds=seconds)
    new = folder / "new.py"
    new.write_text(text)
    new.replace(folder / "soaked.py")


def serves(server: Forkserve) -> tuple[str, int]:
    """Wait until both workers are ready; return the address."""
    found = server.expect(r"socket web: listening at https?://(.*):(\d+)")
    server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
    return found[1], int(found[2])


def ask(address: tuple[str, int]) -> bytes:
    """Return the body of an answer."""
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return client.makefile("rb").read().partition(b"\r\n\r\n")[2]


def reloads(folder: Path, scale: Scale, variant: str) -> Result:
    """Reload again and again under load; raises AssertionError."""
    backend, _, preloaded = variant.partition(" ")
    write(folder, backend, 0, scale.import_seconds)
    control = folder / "ctl.sock"
    config = stack(backend, preload=bool(preloaded))
    # versions that come within a second would be taken for one another
    env = {"PYTHONDONTWRITEBYTECODE": "1", LIMIT: HELD}
    with running("--control", str(control), cwd=folder, config=config, env=env) as server:
        address = serves(server)
        with (
            witnessing(PAUSE) as witness,
            Load(address, pause=PAUSE) as load,
            ControlClient(control, timeout=120) as ctl,
        ):
            for number in range(1, scale.reloads + 1):
                write(folder, backend, number, scale.import_seconds)
                assert ctl.call("reload", watcher="web")["message"] == "web: 2 processes replaced"
                server.expect("web: 2 processes replaced")  # a log that nobody reads would hold the workers up
                # a worker that drains may take one more from the queue
                eventually(partial(_answers, address, b"hello %d" % number))
            eventually(lambda: _generations(ctl) == {scale.reloads + 1})
            load.more(50)
    failed = len(load.lost) + load.refused
    worst, added = max(took for _, took in load.waits), max(added_waits(load.waits, witness.waits))
    held = max(took for _, took in witness.waits)
    figures = f"{scale.reloads} reloads, longest wait {_ms(worst)}, added {_ms(added)}, the witness's {_ms(held)}"
    assert failed == 0, f"{failed} of {load.answered + failed} failed: {load.lost[:3]}"
    # what the machine does to a server that does nothing, it may do to ours as well, at another moment
    assert added < max(scale.added_wait, held), f"a client waited too long for a reload: {figures}"
    return Result(load.answered, failed, figures)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms"


def _answers(address: tuple[str, int], body: bytes) -> bool:
    return ask(address) == body


def _generations(ctl: ControlClient) -> set[int]:
    (watcher,) = ctl.call("status")
    return {each["generation"] for each in watcher["processes"] if each["state"] == "ready"}
