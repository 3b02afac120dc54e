"""Probes: a new process is ready when it serves itself, although others answer at its address."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import running
from tests.support.serving import PATIENCE

LISTENER = """
import os, signal, socket, sys
open("go").read()
unix = sys.argv[1] == "unix"
family = socket.AF_UNIX if unix else socket.AF_INET
address = os.path.abspath("own.sock") if unix else ("127.0.0.1", int(sys.argv[1]))
sock = socket.socket(family)
if family == socket.AF_INET:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(address)
sock.listen()
signal.pause()
"""
"""Listens when the test writes to the FIFO `go`."""


@contextlib.contextmanager
def decoy() -> Iterator[int]:
    """Serve a port that others can share, and return it: every client is let in by the test."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_process_is_ready_when_it_listens_itself(tmp_path: Path) -> None:
    (tmp_path / "listener.py").write_text(LISTENER)
    os.mkfifo(tmp_path / "go")
    with decoy() as port:
        config = f"""
[watcher:a]
cmd = {sys.executable} -S listener.py {port}
ready = tcp://127.0.0.1:{port}
[watcher:b]
cmd = sleep 1000
after = a
ready = 0.1
"""
        with running("--log-level", "debug", cwd=tmp_path, config=config) as server:
            pid = server.started("a[1]")
            (tmp_path / "go").write_text("now")
            server.expect(rf"a\[1\] pid {pid} is ready")
            server.started("b[1]")
            assert server.stop() == 0


def test_what_never_listens_is_killed_with_the_reason_although_another_answers(tmp_path: Path) -> None:
    with decoy() as port:
        config = f"[watcher:a]\ncmd = sleep 1000\nready = tcp://127.0.0.1:{port}\nready_timeout = 4\nmax_retry = 1\n"
        with running(cwd=tmp_path, config=config) as server:
            server.allow("killed$", "SIGKILL", "given up", "gave up", "giving up")
            server.expect(
                rf"not ready within 4 s \(ready_timeout\): tcp://127.0.0.1:{port}: nothing of it listens there"
            )
            assert server.wait() == 70


def test_the_file_of_a_socket_and_a_command_can_be_asked(tmp_path: Path) -> None:
    (tmp_path / "listener.py").write_text(LISTENER)
    os.mkfifo(tmp_path / "go")
    config = f"""
[watcher:a]
cmd = {sys.executable} -S listener.py unix
ready = unix:{tmp_path}/$(circus.env.name).sock
[watcher:b]
cmd = sleep 1000
ready = exec:sh -c 'test "$COLOUR" = red && kill -0 $FORKSERVE_PID && test -e own.sock'
[env:a]
NAME = own
[env:b]
COLOUR = red
[watcher:last]
cmd = sleep 1000
after = a, b
ready_after = 0
"""
    with running("--log-level", "debug", cwd=tmp_path, config=config) as server:
        server.started("a[1]")
        server.rewound().expect("last: waits for a, b to be ready")
        (tmp_path / "go").write_text("now")
        server.expect_all(r"a\[1\] pid \d+ is ready", r"b\[1\] pid \d+ is ready")
        server.started("last[1]")


SITE = """
def app(environ, start):
    start("{} X", [("Content-Length", "1")])
    return [b"x"]
"""


@pytest.mark.slow
def test_a_reload_to_workers_that_answer_an_error_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "site_p.py").write_text(SITE.format(200))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        config = f"""
[socket:web]
fd = {listener.fileno()}
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) site_p:app
copy_env = True
numprocesses = 2
ready = http://127.0.0.1:{port}/health
ready_timeout = 6
"""
        env = {"PWD": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        with running(
            "--log-level", "debug", cwd=tmp_path, config=config, pass_fds=[listener.fileno()], env=env
        ) as server:
            server.allow("killed$", "SIGKILL", "reload of web failed", "taken back")
            server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
            (tmp_path / "site_p.py").write_text(SITE.format(503))
            server.send(signal.SIGHUP)
            server.expect(rf"ready_timeout\): http://127.0.0.1:{port}/health: answered 503: killed")
            server.expect("reload of web failed, 2 processes kept as before")
            assert all(_status(port) == 200 for _ in range(10))


def _status(port: int) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as conn:
        conn.request("GET", "/")
        return conn.getresponse().status


@pytest.mark.parametrize(
    ("ready", "error"),
    [
        ("ftp://x", "ready: expected tcp://HOST:PORT or http://HOST:PORT/PATH, got 'ftp://x'"),
        ("tcp://127.0.0.1", "ready: expected tcp://HOST:PORT"),
        ("exec:", "ready: expected exec:COMMAND, got no command"),
        ("soon", "ready: expected tcp://HOST:PORT, unix:PATH, http://..., exec:COMMAND or seconds, got 'soon'"),
        ("tcp://127.0.0.1:8765", "ready: [socket:web] is shared, so that any process may answer"),
    ],
)
def test_probes_that_can_tell_nothing_are_errors(tmp_path: Path, ready: str, error: str) -> None:
    config = "[socket:web]\nport = 8765\n[watcher:a]\ncmd = sleep 1\nuse_sockets = True\nready = "
    (tmp_path / "stack.ini").write_text(f"{config}{ready}\n")
    done = subprocess.run(
        [sys.executable, "-m", "forkserve", "check", "stack.ini"],
        cwd=tmp_path, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 78
    assert error in done.stdout + done.stderr
