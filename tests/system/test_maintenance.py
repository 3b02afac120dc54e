"""Pauses and maintenance: clients wait in the queue, get 503, or a page, and none is lost when that begins or ends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from tests.support.forkserving import eventually, running
from tests.support.serving import PATIENCE

SITE = """
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
STACK = """
[socket:web]
port = 0
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) site_m:app
copy_env = True
max_retry = -1
numprocesses = 2
graceful_timeout = 5
[watcher:other]
cmd = sleep 1000
ready_after = 0
"""


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[tuple[ControlClient, tuple[str, int]]]:
    (folder / "site_m.py").write_text(SITE)
    control = folder / "control"
    env = {"PWD": str(folder)}
    with running("--control", str(control), cwd=folder, config=STACK, env=env) as server, ControlClient(control) as ctl:
        server.allow("maintenance.*given up", "maintenance.*application", "FileNotFoundError", "Traceback")
        found = server.expect(r"socket web: listening at http://(.*):(\d+)")
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        yield ctl, (found[1], int(found[2]))


def asked(address: tuple[str, int]) -> socket.socket:
    client = socket.create_connection(address, PATIENCE)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return client


def answer(client: socket.socket) -> bytes:
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def is_silent(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(PATIENCE)
    return False


def _state(ctl: ControlClient) -> str:
    return str(ctl.call("status", watcher="web")[0]["state"])


def _hold(ctl: ControlClient) -> bool:
    processes = ctl.call("status", watcher="web")[0]["processes"]
    return all(each.get("status") == "accepts nothing" for each in processes)


def test_clients_wait_in_the_queue_until_they_are_served_again(tmp_path: Path) -> None:
    with stack(tmp_path) as (ctl, address):
        said = ctl.call("pause", watcher="web", max=1000)["message"]
        assert said == "web: 2 processes accept nothing more; clients wait for 1000 s at most, then get 503"
        assert _state(ctl) == "held"
        eventually(lambda: _hold(ctl))
        clients = [asked(address) for _ in range(20)]
        assert all(map(is_silent, clients))
        assert ctl.call("resume", watcher="web")["message"] == "web: accepts again"
        assert all(answer(each).endswith(b"\r\n\r\nok") for each in clients)
        assert _state(ctl) == "active"


@pytest.mark.parametrize("then", ["shed", "resume"])
def test_a_pause_ends_by_itself(tmp_path: Path, then: str) -> None:
    with stack(tmp_path) as (ctl, address):
        assert "accept nothing more" in ctl.call("pause", watcher="web", max=0.5, then=then)["message"]
        if then == "shed":
            eventually(lambda: _hold(ctl))
            said = answer(asked(address))
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 10\r\n" in said
            ctl.call("resume", watcher="web")
            assert [each["name"] for each in ctl.call("status")] == ["web", "other"]
        eventually(lambda: _state(ctl) == "active")
        assert answer(asked(address)).endswith(b"\r\n\r\nok")


def test_a_page_stands_in_for_the_workers_also_while_they_are_restarted(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>soon</p>")
    with stack(tmp_path) as (ctl, address):
        said = ctl.call("maintenance", switch="on", file=str(page), retry_after=7)["message"]
        assert said == "maintenance is on"
        eventually(lambda: _hold(ctl))
        for _ in range(2):
            got = answer(asked(address))
            assert got.startswith(b"HTTP/1.1 503 ")
            assert got.endswith(b"\r\n\r\n<p>soon</p>")
            assert b"\r\nContent-Type: text/html; charset=utf-8\r\n" in got
            assert b"\r\nRetry-After: 7\r\n" in got
            ctl.call("restart", watcher="web")
        with pytest.raises(ControlError, match="maintenance is on already"):
            ctl.call("maintenance", switch="on")
        assert ctl.call("maintenance", switch="off")["message"] == "maintenance is off"
        assert answer(asked(address)).endswith(b"\r\n\r\nok")


def test_what_cannot_be_is_refused_and_the_workers_serve_on(tmp_path: Path) -> None:
    with stack(tmp_path) as (ctl, address):
        with pytest.raises(ControlError, match=r"other does not serve on a socket"):
            ctl.call("pause", watcher="other")
        with pytest.raises(ControlError, match=r"page: expected an absolute path"):
            ctl.call("maintenance", switch="on", file="page")
        with pytest.raises(ControlError, match=r"web:maintenance"):
            ctl.call("maintenance", switch="on", file=str(tmp_path / "missing.html"))
        argv = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", "control", "maintenance", "on", "missing.html"]
        found = subprocess.run(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
        assert found.returncode == 2
        assert found.stderr == "forkservectl: error: maintenance: missing.html: no such file\n"
        assert answer(asked(address)).endswith(b"\r\n\r\nok")
        assert ctl.call("maintenance", switch="off")["message"] == "maintenance is off"


def test_what_has_not_begun_yet_is_ended_too(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    os.mkfifo(page)  # nobody ever writes to it, so the responder never serves
    with stack(tmp_path) as (ctl, address), ControlClient(tmp_path / "control") as other, ThreadPoolExecutor() as pool:
        asked_for = pool.submit(other.call, "maintenance", switch="on", file=str(page))
        eventually(lambda: "web:maintenance" in [each["name"] for each in ctl.call("status")])
        assert ctl.call("maintenance", switch="off")["message"] == "maintenance is off"
        assert [each["name"] for each in ctl.call("status")] == ["web", "other"]
        with pytest.raises(ControlError, match="superseded"):
            asked_for.result(PATIENCE)
        assert answer(asked(address)).endswith(b"\r\n\r\nok")


BUSY = """
import os, select
def app(environ, start):
    open(f"busy-{os.getpid()}", "w").close()
    while not os.path.exists("release"):
        select.select((), (), (), 0.01)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_a_pause_sheds_what_waits_in_the_queue_of_each_slot(tmp_path: Path) -> None:
    (tmp_path / "site_m.py").write_text(BUSY)
    config = STACK.replace("port = 0\n", "port = 0\nso_reuseport = True\n")
    control, env = tmp_path / "control", {"PWD": str(tmp_path)}
    with (
        running("--control", str(control), cwd=tmp_path, config=config, env=env) as server,
        ControlClient(control) as ctl,
    ):
        found = server.expect(r"socket web: listening at http://(.*):(\d+)")
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        address, clients = (found[1], int(found[2])), list[socket.socket]()

        def both_are_busy() -> bool:
            clients.append(asked(address))
            return len(list(tmp_path.glob("busy-*"))) == 2

        eventually(both_are_busy)
        clients += [asked(address) for _ in range(80)]
        ctl.call("pause", watcher="web", max=0.5)
        (tmp_path / "release").touch()
        codes = [answer(each).split(b" ", 2)[1] for each in clients]
        assert set(codes) == {b"200", b"503"}, "a worker has taken some before it was busy"
        ctl.call("resume", watcher="web")
