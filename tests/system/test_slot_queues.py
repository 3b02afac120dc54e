"""so_reuseport: each slot has its own queue, and whatever becomes of slots and processes, nobody waits in vain."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, pause, running
from tests.support.load import Load
from tests.system.test_preload import address_of, ask, ctl, ready, workers

APP = """
import json, os
def app(environ, start):
    body = json.dumps({"pid": os.getpid(), "load": "hello"}).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
STACK = """
[socket:web]
port = 0
so_reuseport = True
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) --keep-alive 0 queues_app:app
use_sockets = True
copy_env = True
preload = True
standby = False
numprocesses = {processes}
graceful_timeout = 5
backoff = 0.1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "queues_app.py").write_text(APP)
    return tmp_path


def waiting(server: Forkserve, stack: contextlib.ExitStack, number: int) -> list[socket.socket]:
    """Ask so many times, and wait for no answer."""
    clients = [stack.enter_context(socket.create_connection(address_of(server), timeout=20)) for _ in range(number)]
    for each in clients:
        each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return clients


def answers(clients: list[socket.socket]) -> int:
    return sum(b"hello" in b"".join(iter(lambda: each.recv(4096), b"")) for each in clients)  # noqa: B023


@pytest.mark.slow
def test_nothing_is_lost_when_processes_are_killed_replaced_and_counted_anew(folder: Path) -> None:
    with (
        running("--control", "ctl.sock", cwd=folder, config=STACK.format(processes=3)) as server,
        contextlib.ExitStack() as load,
    ):
        ready(server, 3)
        server.allow("SIGKILL")
        asking = load.enter_context(Load(address_of(server), clients=2))
        for _ in range(3):
            os.kill(ask(address_of(server))["pid"], signal.SIGKILL)
            server.expect(r"web\[\d\] pid \d+ is ready")
            asking.more(10)
        killed = len(asking.lost)
        for number in ("1", "4"):
            ctl(folder, "set", "web", "numprocesses", number)
            asking.more(20)
        ctl(folder, "upgrade")
        ctl(folder, "set", "web", "numprocesses", "2")
        ctl(folder, "reload", "web")
        asking.more(20)
        load.close()
        # each of the killed may have had both clients
        assert killed <= 6 and len(asking.lost) == killed and asking.refused == 0, asking.lost
        assert len(workers(server, 2)) == 2


def test_what_waits_for_a_process_that_dies_is_taken_by_its_successor_or_by_one_beside(folder: Path) -> None:
    with (
        running("--control", "ctl.sock", cwd=folder, config=STACK.format(processes=2)) as server,
        contextlib.ExitStack() as stack,
    ):
        ready(server, 2)
        server.allow("SIGKILL")
        eventually(lambda: len(workers(server, 2)) == 2)  # both are dealt to
        second = int(server.first(r"web\[2\] pid (\d+) is ready")[1])
        pause(second)
        clients = waiting(server, stack, 30)
        assert '"queued": 0' not in ctl(folder, "listsockets", "--json")
        os.kill(second, signal.SIGKILL)
        assert answers(clients) == 30

        third = int(server.expect(rf"web\[2\] pid (?!{second} )(\d+) is ready")[1])
        eventually(lambda: third in workers(server, 2))
        pause(third)
        clients = waiting(server, stack, 30)
        ctl(folder, "decr", "web", "--no-wait")
        server.expect("web: 1 process wanted")
        os.kill(third, signal.SIGKILL)
        beside = int(server.expect(rf"web\[2\] pid (?!{third} )(\d+) started")[1])
        os.kill(beside, signal.SIGKILL)
        assert answers(clients) == 30
        eventually(lambda: len(workers(server, 1)) == 1 and len(server.children()) == 3)  # with a zygote and its spare


def test_what_waits_in_the_queue_of_a_slot_is_taken_when_the_option_is_switched_off(folder: Path) -> None:
    with (
        running("--control", "ctl.sock", cwd=folder, config=STACK.format(processes=2)) as server,
        contextlib.ExitStack() as stack,
    ):
        ready(server, 2)
        server.allow("SIGKILL")
        eventually(lambda: len(workers(server, 2)) == 2)
        second = int(server.first(r"web\[2\] pid (\d+) is ready")[1])
        pause(second)
        clients = waiting(server, stack, 30)
        file = folder / "stack.ini"
        file.write_text(file.read_text().replace("so_reuseport = True\n", ""))
        server.send(signal.SIGHUP)
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        os.kill(second, signal.SIGKILL)

        assert answers(clients) == 30
        eventually(lambda: len(workers(server, 2)) == 2 and len(server.children()) == 4)
