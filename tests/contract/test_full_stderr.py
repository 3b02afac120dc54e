"""A worker whose stderr is full is told to end: it waits a moment for a reader, drops the line, and ends in order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.serving import COMMAND, PATIENCE, bound

FOLDER = Path(__file__).parent
SERVING = b"serving engine_app:app"


def _fill(writer: int) -> None:
    """Write to a pipe or a socket until nothing fits, and leave it blocking."""
    kind = os.fstat(writer).st_mode
    with contextlib.suppress(BlockingIOError):
        if stat.S_ISSOCK(kind):
            with socket.socket(fileno=os.dup(writer)) as sock:
                while sock.send(b"x" * 4096, socket.MSG_DONTWAIT):
                    pass
        own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while os.write(own, b"x" * 4096):
                pass
        finally:
            os.close(own)


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _socket() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("made", [_pipe, _socket])
@pytest.mark.parametrize("backend", ["sync", "threads", "gevent"])
def test_a_worker_drains_although_its_log_is_full(backend: str, made: object) -> None:
    assert callable(made)
    reader, writer = made()
    with contextlib.closing(bound()) as sock:
        words = [COMMAND, "--fd", str(sock.fileno()), "--backend", backend, "engine_app:app"]
        worker = subprocess.Popen(words, cwd=FOLDER, pass_fds=[sock.fileno()], stdin=subprocess.DEVNULL, stderr=writer)
        try:
            said = b""
            while SERVING not in said:
                part = os.read(reader, 65536)
                assert part, said
                said += part
            _fill(writer)
            worker.send_signal(signal.SIGTERM)

            assert worker.wait(PATIENCE) == 0
        finally:
            worker.kill()
            worker.wait()
            os.close(reader)
            os.close(writer)
