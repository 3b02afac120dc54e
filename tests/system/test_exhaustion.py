"""Workers that can take no more connections: nobody is lost, what runs goes on, and the log says it once."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crowd import PATIENCE, Crowd, answer
from tests.support.forkserving import Forkserve, running

APPS = Path(__file__).parent / "apps"
WORKER = Path(sys.executable).parent / "forkserve-worker"
BACKENDS = ("sync", "threads", "gevent", "asgi")
HALF = b"GET / HTTP/1.1\r\nHost: a\r\n"


@contextlib.contextmanager
def siblings(backend: str, folder: Path, *words: str, pure: bool = False) -> Iterator[tuple[Forkserve, Crowd]]:
    """Run two workers that may have 128 descriptors each."""
    app = "crowd:asgi" if backend == "asgi" else "crowd:wsgi"
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        fd = listener.fileno()
        worker = f"{WORKER} --backend {backend} {' '.join(words)} --pythonpath {APPS} --fd $(circus.sockets.web) {app}"
        config = (
            f"[socket:web]\nfd = {fd}\n[watcher:web]\ncmd = /bin/sh -c 'ulimit -n 128; exec {worker}'\n"
            "copy_env = true\nuse_sockets = true\nnumprocesses = 2\n"
        )
        environ = {"FORKSERVE_PURE": "1"} if pure else {}
        with running(cwd=folder, config=config, pass_fds=(fd,), env=environ) as server:
            for _ in range(2):
                server.expect(r"web\[\d+\] pid \d+ is ready")
            crowd = Crowd(listener.getsockname())
            try:
                yield server, crowd
            finally:
                crowd.close()


@contextlib.contextmanager
def half_heads(crowd: Crowd, number: int) -> Iterator[list[socket.socket]]:
    """Connect so many clients, each of which has sent half a head."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(number):
            client = stack.enter_context(socket.socket())
            client.settimeout(PATIENCE)
            client.connect(crowd._address)
            client.sendall(HALF)
            clients.append(client)
        yield clients


def assert_all_are_served(backend: str, folder: Path, *words: str, pure: bool = False) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 600, "the test itself needs descriptors: ulimit -n 1024"
    with siblings(backend, folder, *words, pure=pure) as (server, crowd):
        crowd.come(2)
        with half_heads(crowd, 400) as clients:
            server.expect(r"WARNING forkserve.engine: accepting is paused")
            for client in crowd.pids:
                # Those that were there before are served in the midst of it.
                client.sendall(HALF + b"\r\n")
                assert answer(client) == crowd.pids[client]
            for client in clients:
                client.sendall(b"Connection: close\r\n\r\n")
            pids = {answer(client) for client in clients}
        assert pids == set(crowd.pids.values()), "the workers are still the same"
        server.stop()
        told = [line for line in server.lines if "forkserve.engine: accepting is paused" in line]
        assert 1 <= len(told) <= 2, "one line for each worker"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_limit_of_descriptors_is_kept_away_from(backend: str, tmp_path: Path) -> None:
    assert_all_are_served(backend, tmp_path)


@pytest.mark.parametrize("pure", [False, True], ids=["compiled", "pure"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_without_descriptors_pause_and_go_on(backend: str, pure: bool, tmp_path: Path) -> None:
    assert_all_are_served(backend, tmp_path, "--max-connections 0", pure=pure)
