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
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.forkserving import Forkserve, eventually, pause, running, scoreboard_of

APPS = Path(__file__).parent / "apps"
WORKER = Path(sys.executable).parent / "forkserve-worker"
BACKENDS = ["sync", "threads", "gevent", "asgi"]


HANGS = [("/c", "hang_in_c"), ("/once", "hang_once_in_c")]
"""Calls into C that keep the lock; the question for its stacks ends the second."""


@contextlib.contextmanager
def site(
    backend: str, folder: Path, *, workers: int = 1, more: str = "", **environ: str
) -> Iterator[tuple[Forkserve, tuple[str, int]]]:
    """Run workers on a socket of the test, and give its address."""
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
            yield server, listener.getsockname()


def ask(address: tuple[str, int], path: str) -> socket.socket:
    """Send a request, and do not wait for its answer."""
    client = socket.create_connection(address)
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
    return commands.ctl(folder, "--socket", "ctl.sock", *argv)


@contextlib.contextmanager
def hanging(cases: Sequence[tuple[str, str]], folder: Path) -> Iterator[tuple[Forkserve, dict[str, tuple[str, int]]]]:
    """Run one worker for each backend and path, and give where it serves, by the name of its watcher."""
    with contextlib.ExitStack() as stack:
        text, addresses, fds = "", {}, []
        for number, (backend, _) in enumerate(cases):
            name, app = f"w{number}", "asgi" if backend == "asgi" else "wsgi"
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            fds.append(listener.fileno())
            addresses[name] = listener.getsockname()
            command = f"{WORKER} --backend {backend} --pythonpath {APPS} --fd $(circus.sockets.{name}) --timeout 0.3"
            text += f"[socket:{name}]\nfd = {fds[-1]}\n[watcher:{name}]\ncmd = {command} hanging:{app}\n"
            text += "copy_env = true\nuse_sockets = true\n"
        server = stack.enter_context(running(cwd=folder, config=text, pass_fds=fds))
        server.expect_all(*(rf"{name}\[1\] pid \d+ is ready" for name in addresses))
        yield server, addresses


@pytest.mark.parametrize(
    "cases",
    [
        [("sync", "/c"), ("asgi", "/c"), ("sync", "/once")],
        pytest.param([(each, path) for each in BACKENDS for path, _ in HANGS], marks=pytest.mark.slow, id="all"),
    ],
)
def test_c_code_that_keeps_the_lock_costs_one_worker(cases: list[tuple[str, str]], tmp_path: Path) -> None:
    """A worker is found to hang after four seconds at the earliest, so all hang at once."""
    with hanging(cases, tmp_path) as (server, addresses):
        server.allow("is stuck", "SIGKILL", "Thread", "File")
        clients = [ask(address, path) for address, (_, path) in zip(addresses.values(), cases, strict=True)]
        stuck = [rf"{name}\[1\] pid \d+ is stuck, silent for 4.3 s: killed; it was here:" for name in addresses]
        server.expect_all(*stuck, *(f"in {dict(HANGS)[path]}" for _, path in cases))
        for name in addresses:
            server.rewound()
            server.expect(rf"{name}\[1\] pid \d+ is stuck")
            server.expect(rf"{name}\[1\] pid \d+ is ready")
        for client, address in zip(clients, addresses.values(), strict=True):
            client.close()
            assert b"200 OK" in answer(ask(address, "/"))


def test_a_patience_that_somebody_else_wrote_ends_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with site("sync", tmp_path, FORKSERVE_TEST_FIFO=str(fifo)) as (server, address):
        client = ask(address, "/wait")
        writer = os.open(fifo, os.O_WRONLY)  # it waits for us now, in the turn of its loop
        memory = scoreboard_of(server.children()[0].pid)
        (pages,) = struct.unpack("=q", os.pread(memory, 8, 56))
        os.pwrite(memory, struct.pack("=d", 1e-4), pages + 32)
        os.close(memory)
        # nothing tells that the master has looked: it would by now, twice
        subprocess.run(["sleep", "2"], check=True)
        os.close(writer)
        assert b"200 OK" in answer(client)
        assert "stuck" not in server.transcript()


@pytest.mark.slow  # as long as it takes to call a worker stuck; the judgement is in test_heartbeat
def test_one_that_is_stopped_is_no_false_alarm(tmp_path: Path) -> None:
    with site("sync", tmp_path, more="--timeout 0.3") as (server, address):
        pid = int(answer(ask(address, "/")).rpartition(b"\r\n")[2])
        pause(pid)
        client = ask(address, "/")
        subprocess.run(["sleep", "5.5"], check=True)
        os.kill(pid, signal.SIGCONT)
        assert str(pid).encode() in answer(client)
        assert "stuck" not in server.transcript()


@pytest.mark.slow  # six seconds in which nothing may happen
def test_one_that_is_idle_is_no_false_alarm(tmp_path: Path) -> None:
    with site("asgi", tmp_path, more="--timeout 0.3") as (server, address):
        pid = answer(ask(address, "/")).rpartition(b"\r\n")[2]
        subprocess.run(["sleep", "5.5"], check=True)
        assert answer(ask(address, "/")).rpartition(b"\r\n")[2] == pid
        assert "stuck" not in server.transcript()


@pytest.mark.parametrize("backend", BACKENDS)
def test_stacks_are_told_to_a_person(backend: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with site(backend, tmp_path, workers=2, more="--graceful-timeout 1", FORKSERVE_TEST_FIFO=str(fifo)) as (
        server,
        address,
    ):
        server.allow("cut", "cancelled")
        client = ask(address, "/wait")
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
