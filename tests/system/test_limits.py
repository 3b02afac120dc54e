"""Limits that keep a machine alive: clients are shed, memory is bounded, the number of workers follows the load."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running

APPS = Path(__file__).parent / "apps"
WORKER = Path(sys.executable).parent / "forkserve-worker"


@dataclass
class Limited:
    """A running master, where its workers serve, and the file that the request `/wait` waits for."""

    server: Forkserve
    address: tuple[str, int]
    fifo: Path

    def ask(self, path: str) -> socket.socket:
        """Send a request, and do not wait for its answer."""
        client = socket.create_connection(self.address)
        client.settimeout(20)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client

    def get(self, path: str) -> bytes:
        return answer(self.ask(path))

    def free(self) -> None:
        """Let one request go on that waits."""
        os.close(os.open(self.fifo, os.O_WRONLY))


def answer(client: socket.socket) -> bytes:
    with client:
        data = b""
        while more := client.recv(65536):
            data += more
    return data


@contextlib.contextmanager
def limited(
    folder: Path, *, worker: str = "", watcher: str = "", environ: dict[str, str] | None = None
) -> Iterator[Limited]:
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    environ = {"FORKSERVE_TEST_FIFO": str(fifo), **(environ or {})}
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        fd = listener.fileno()
        command = f"{WORKER} --backend sync --pythonpath {APPS} --fd $(circus.sockets.web) {worker} counted:wsgi"
        watched = f"[watcher:web]\ncmd = {command}\ncopy_env = true\nuse_sockets = true\n{watcher}"
        with running(cwd=folder, config=f"[socket:web]\nfd = {fd}\n{watched}", pass_fds=(fd,), env=environ) as server:
            server.expect(r"web\[\d\] pid \d+ is ready")
            yield Limited(server, listener.getsockname(), fifo)


@pytest.mark.parametrize(
    "pure", [pytest.param(False, id="compiled"), pytest.param(True, id="pure", marks=pytest.mark.slow)]
)
def test_clients_that_have_waited_too_long_are_shed(pure: bool, tmp_path: Path) -> None:
    environ = {"FORKSERVE_PURE": "1"} if pure else None
    with limited(tmp_path, worker="--queue-timeout 1.5", environ=environ) as here:
        busy = here.ask("/wait")
        eventually(lambda: _is_busy(here))
        waiting = [here.ask("/") for _ in range(3)]
        subprocess.run(["sleep", "2"], check=True)
        here.free()
        assert answer(busy).startswith(b"HTTP/1.1 200")
        for each in waiting:
            refused = answer(each)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in refused
        assert here.get("/").startswith(b"HTTP/1.1 200")
        shed = 0
        while shed < 3:  # the master looks at the counters now and then, and may have looked in between
            shed += int(here.server.expect(r"web: (\d+) connections answered 503 that had waited too long")[1])
        assert shed == 3


def _is_busy(here: Limited) -> bool:
    """Tell whether the only worker sleeps in open(2) of the FIFO."""
    (pid,) = (each.pid for each in here.server.children())
    return (
        "fifo" in Path(f"/proc/{pid}/wchan").read_text() or "wait_for_partner" in Path(f"/proc/{pid}/wchan").read_text()
    )


def test_a_process_that_grows_is_replaced_and_nobody_is_lost(tmp_path: Path) -> None:
    with limited(tmp_path, watcher="max_rss = 90M\nbackoff_max = 0.5\n") as here:
        before = here.get("/").rpartition(b"\r\n")[2]
        assert here.get("/grow").startswith(b"HTTP/1.1 200")
        here.server.expect(r"web\[1\] pid \d+: it uses \d+ MiB, and max_rss is 90 MiB: replacing it")
        here.server.expect("exited with code 0")
        after = here.get("/").rpartition(b"\r\n")[2]
        assert after != before


@pytest.mark.slow  # memory is weighed every ten seconds
def test_the_sum_is_kept_by_the_largest(tmp_path: Path) -> None:
    with limited(tmp_path, watcher="numprocesses = 2\nmax_pss_total = 120M\nbackoff_max = 0.5\n") as here:
        here.server.expect("is ready")
        here.get("/grow")
        here.server.expect(r"all processes use \d+ MiB, and max_pss_total is 120 MiB: replacing it", timeout=30)
        here.server.expect("exited with code 0")


def test_workers_follow_the_load(tmp_path: Path) -> None:
    with limited(tmp_path, watcher="numprocesses_max = 2\n") as here:
        clients = [here.ask("/wait")]
        eventually(lambda: _is_busy(here))
        clients.append(here.ask("/"))
        here.server.expect(r"web: 2 processes instead of 1: \d+% busy, 1 connections wait")
        here.server.expect(r"web\[2\] pid \d+ is ready")
        assert answer(clients[1]).startswith(b"HTTP/1.1 200")
        here.free()
        assert answer(clients[0]).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("numprocesses_max = 2\nnumprocesses = 3", "must be from numprocesses_min (1) to numprocesses_max (2), got 3"),
        ("numprocesses_max = many", "expected an integer, got 'many'"),
        ("max_rss = lots", "expected a size such as 4096, 64k, 10M or 1G, got 'lots'"),
    ],
)
def test_nonsense_is_refused_in_one_line(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "stack.ini").write_text(f"[watcher:web]\ncmd = sleep 100\n{line}\n")
    command = [sys.executable, "-m", "forkserve", "check", "stack.ini"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    assert done.returncode != 0
    assert message in done.stderr + done.stdout
