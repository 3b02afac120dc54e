"""A worker whose interpreter hangs in C is found by the master, told where it was, and replaced; nobody else is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.forkserving import Forkserve, eventually, running, scoreboard_of

APPS = Path(__file__).parent / "apps"
WORKER = Path(sys.executable).parent / "forkserve-worker"
BACKENDS = ["sync", "threads", "gevent", "asgi"]


def hangs(path: str, function: str, daily: Container[str]) -> list[Any]:
    """Return the cases of an application that hangs; a worker is found to do so after four seconds at the earliest."""
    return [pytest.param(each, path, function, marks=() if each in daily else pytest.mark.slow) for each in BACKENDS]


@contextlib.contextmanager
def site(backend: str, folder: Path, *, workers: int = 1, more: str = "", **environ: str) -> Iterator[Forkserve]:
    """Run workers on a socket that the test reaches by `address`."""
    app = "hanging:asgi" if backend == "asgi" else "hanging:wsgi"
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        fd = listener.fileno()
        worker = f"{WORKER} --backend {backend} --pythonpath {APPS} --fd $(circus.sockets.web) {more} {app}"
        watcher = f"[watcher:web]\ncmd = {worker}\ncopy_env = true\nuse_sockets = true\nnumprocesses = {workers}\n"
        config = f"[circus]\ncontrol = {folder}/ctl.sock\n[socket:web]\nfd = {fd}\n{watcher}"
        (folder / "stack.ini").write_text(config)
        with running("-c", "stack.ini", "--control", "ctl.sock", cwd=folder, pass_fds=(fd,), env=environ) as server:
            for _ in range(workers):
                server.expect(r"web\[\d+\] pid \d+ is ready")
            server.address = listener.getsockname()  # type: ignore[attr-defined]
            yield server


def ask(server: Forkserve, path: str) -> socket.socket:
    """Send a request, and do not wait for its answer."""
    client = socket.create_connection(server.address)  # type: ignore[attr-defined]
    client.settimeout(20)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return client


def answer(client: socket.socket) -> bytes:
    with client:
        data = b""
        while more := client.recv(65536):
            data += more
    return data


def ctl(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", "ctl.sock", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("backend", "path", "function"),
    [
        *hangs("/c", "hang_in_c", daily=("sync", "asgi")),
        *hangs("/once", "hang_once_in_c", daily=("sync",)),  # the question for its stacks ends that call
    ],
)
def test_c_code_that_keeps_the_lock_costs_one_worker(backend: str, path: str, function: str, tmp_path: Path) -> None:
    with site(backend, tmp_path, more="--timeout 0.3") as server:
        server.allow("is stuck", "SIGKILL", "Thread", "File")
        client = ask(server, path)
        server.expect(r"web\[1\] pid \d+ is stuck, silent for 4.3 s: killed; it was here:")
        server.expect(f"in {function}")
        server.expect("is ready")
        client.close()
        assert b"200 OK" in answer(ask(server, "/"))


def test_a_patience_that_somebody_else_wrote_ends_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with site("sync", tmp_path, FORKSERVE_TEST_FIFO=str(fifo)) as server:
        client = ask(server, "/wait")
        writer = os.open(fifo, os.O_WRONLY)  # it waits for us now, in the turn of its loop
        memory = scoreboard_of(server.children()[0].pid)
        (pages,) = struct.unpack("=q", os.pread(memory, 8, 56))
        os.pwrite(memory, struct.pack("=d", 1e-4), pages + 32)
        os.close(memory)
        subprocess.run(["sleep", "2"], check=True)
        os.close(writer)
        assert b"200 OK" in answer(client)
        assert "stuck" not in server.transcript()


@pytest.mark.slow  # as long as it takes to call a worker stuck; the judgement is in test_heartbeat
def test_one_that_is_stopped_is_no_false_alarm(tmp_path: Path) -> None:
    with site("sync", tmp_path, more="--timeout 0.3") as server:
        pid = int(answer(ask(server, "/")).rpartition(b"\r\n")[2])
        os.kill(pid, signal.SIGSTOP)
        client = ask(server, "/")
        subprocess.run(["sleep", "5.5"], check=True)
        os.kill(pid, signal.SIGCONT)
        assert str(pid).encode() in answer(client)
        assert "stuck" not in server.transcript()


@pytest.mark.slow  # six seconds in which nothing may happen
def test_one_that_is_idle_is_no_false_alarm(tmp_path: Path) -> None:
    with site("asgi", tmp_path, more="--timeout 0.3") as server:
        pid = answer(ask(server, "/")).rpartition(b"\r\n")[2]
        subprocess.run(["sleep", "5.5"], check=True)
        assert answer(ask(server, "/")).rpartition(b"\r\n")[2] == pid
        assert "stuck" not in server.transcript()


@pytest.mark.parametrize("backend", BACKENDS)
def test_stacks_are_told_to_a_person(backend: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with site(backend, tmp_path, workers=2, more="--graceful-timeout 1", FORKSERVE_TEST_FIFO=str(fifo)) as server:
        server.allow("cut", "cancelled")
        client = ask(server, "/wait")
        try:
            wanted = "waits_in_a_task" if backend == "asgi" else "waits_for_fifo"
            eventually(lambda: wanted in ctl(tmp_path, "stacks", "web").stdout)
            found = json.loads(ctl(tmp_path, "stacks", "web", "--json").stdout)
            assert [each["name"] for each in found] == ["web[1]", "web[2]"]
            assert all(any("idle_beside" in line for line in each["lines"]) for each in found)
            one = ctl(tmp_path, "stacks", "web[2]").stdout
            assert one.startswith("== web[2] pid ")
            assert "web[1]" not in one
            assert ctl(tmp_path, "stacks", str(found[0]["pid"])).stdout.startswith("== web[1] pid ")
        finally:
            if backend != "asgi":
                os.close(os.open(fifo, os.O_WRONLY))
                assert b"200 OK" in answer(client)
            client.close()
        done = ctl(tmp_path, "stacks", "web[7]")
        assert (done.returncode, done.stderr) == (1, "forkservectl: error: web[7]: no such process\n")


def test_a_program_that_tells_no_stacks_is_not_harmed(tmp_path: Path) -> None:
    (tmp_path / "stack.ini").write_text("[watcher:other]\ncmd = sleep 100\nready_after = 0.05\n")
    with running("-c", "stack.ini", "--control", "ctl.sock", "--log-level", "debug", cwd=tmp_path) as server:
        server.expect("other.1. pid .* is ready")
        done = ctl(tmp_path, "stacks", "other")
        assert "it tells no stacks" in done.stdout
        assert "ended" not in server.transcript()
