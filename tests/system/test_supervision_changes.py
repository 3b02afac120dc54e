"""What a change does not touch cannot spoil it, and what it takes back or moves away from loses nobody."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.forkserving import eventually, running
from tests.support.load import Load
from tests.system.test_supervision_reload import (
    APP,
    BROKEN,
    ask,
    free_ports,
    is_open,
    reload,
    socket_section,
    watcher,
)

FLAKY = "[watcher:flaky]\ncmd = sh -c 'exit 1'\nmax_retry = -1\nbackoff = 0.1\nbackoff_max = 0.1\n"
NEW = "[watcher:new]\ncmd = sleep 1000\n"
FAILS_WHEN_TOLD = """
import os, time
while not os.path.exists("fail"):
    time.sleep(0.01)
raise RuntimeError("told to fail")
"""


def ctl(folder: Path, *words: str) -> None:
    done = commands.ctl(folder, "--socket", "control", *words)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "failing.py").write_text(FAILS_WHEN_TOLD)
    (tmp_path / "hanging.py").write_text("import time\ntime.sleep(1000)\n")
    return tmp_path


@pytest.mark.parametrize("more", ["", "env.x = 1\n", "numprocesses = 3\n"], ids=["same", "changed", "more"])
def test_a_watcher_in_a_crash_loop_is_no_veto(folder: Path, more: str) -> None:
    one, two = free_ports(2)
    with running(cwd=folder, config=socket_section("web", one) + watcher("web") + FLAKY) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"flaky\[1\].*exited with code 1")
        server.allow("flaky")
        reload(server, socket_section("web", two) + watcher("web") + FLAKY + more + NEW)
        server.expect("new is new")
        server.started("new[1]")
        eventually(lambda: is_open(two))
        eventually(lambda: not is_open(one))
        server.started("flaky[1]")

        assert "hello" in ask(two)
        assert "taken back" not in server.transcript()


def test_a_change_waits_for_no_start_of_what_never_gets_ready(folder: Path) -> None:
    (port,) = free_ports(1)
    good = socket_section("web", port) + watcher("web", "max_retry = -1", "backoff = 0.1", "backoff_max = 0.1")
    bad = good.replace("app:app", "broken:app")
    with running("--control", str(folder / "control"), cwd=folder, config=bad) as server:
        server.allow("broken", r"web\[1\]", "Traceback")
        server.expect(r"web\[1\] pid \d+ exited with code 3")
        for words in (("start", "web"), ("restart", "web"), ("start", "web")):
            ctl(folder, *words, "--no-wait")
        server.expect(r"web\[1\] pid \d+ exited with code 3")
        reload(server, good)

        server.expect(r"web\[1\] pid \d+ is ready")
        assert "hello" in ask(port)


def test_an_unchanged_watcher_whose_code_is_broken_fails_alone(folder: Path) -> None:
    one, two = free_ports(2)
    (folder / "other.py").write_text(APP)
    sockets = socket_section("web", one) + socket_section("api", two)
    config = sockets + watcher("web") + watcher("api", sock="api", app="other")
    with running(cwd=folder, config=config) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"api\[1\] pid \d+ is ready")
        server.allow("broken", "reload of api failed", "Traceback", "HUP|reload failed")
        (folder / "other.py").write_text(BROKEN)
        reload(server, config + NEW)
        server.expect_all("reload of api failed", r"new\[1\] pid \d+ started", "web: 1 process replaced")

        assert "hello" in ask(two)
        assert "taken back" not in server.transcript()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nobody_gets_into_a_new_socket_that_is_taken_back(folder: Path, kind: str) -> None:
    here, there = free_ports(2)
    path = folder / "new.sock"
    good = socket_section("web", here) + watcher("web")
    new = socket_section("side", there) if kind == "tcp" else f"[socket:side]\npath = {path}\n"
    bad = good.replace("app:app", "failing:app") + new + watcher("side", sock="side", app="hanging")
    with running(cwd=folder, config=good) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("failing|told to fail", "was taken back", "Traceback", "reload of web failed", "RuntimeError")
        with Load(("127.0.0.1", here)) as load:
            reload(server, bad)
            server.expect("socket side is new")
            load.address = ("127.0.0.1", there) if kind == "tcp" else str(path)
            server.started("web[1]")
            eventually(lambda: load.refused > 0 or kind == "tcp")
            (folder / "fail").touch()
            server.expect("the reload was taken back")
            load.address = ("127.0.0.1", here)
            load.more(20)
        assert load.lost == []
    assert list(folder.glob("*.sock")) == list(folder.glob(".*.sock*")) == []


def test_nobody_gets_into_a_file_that_is_made_again_and_taken_back(folder: Path) -> None:
    path = folder / "web.sock"
    good = f"[socket:web]\npath = {path}\n" + watcher("web")
    with running(cwd=folder, config=good) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("failing|told to fail", "was taken back", "Traceback", "reload of web failed", "RuntimeError")
        with Load(str(path)) as load:
            path.unlink()
            reload(server, good.replace("app:app", "failing:app"))
            server.started("web[1]")
            eventually(lambda: load.refused > 0)
            (folder / "fail").touch()
            server.expect("the reload was taken back")
            reload(server, good)
            server.expect("web: 1 process replaced")
            load.more(20)
        assert load.lost == []


def test_a_watcher_that_cannot_be_put_back_at_once_comes_back_to_its_queue(folder: Path) -> None:
    one, two, three = free_ports(3)
    stubborn = ("max_retry = -1", "backoff = 0.1", "backoff_max = 0.1")
    (folder / "other.py").write_text(APP)
    good = socket_section("web", one) + socket_section("api", two)
    good += watcher("web", *stubborn) + watcher("api", sock="api", app="other")
    bad = good.replace(f"= {one}", f"= {three}").replace("other:app", "failing:app")
    with running(cwd=folder, config=good) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"api\[1\] pid \d+ is ready")
        server.allow(
            "failing|told to fail", "was taken back", "Traceback", "reload of (web|api) failed", "RuntimeError"
        )
        server.allow("broken", r"web\[1\]")
        reload(server, bad)
        server.expect("web: 1 process replaced")
        (folder / "app.py").write_text(BROKEN)
        (folder / "fail").touch()
        reload(server, good)
        server.expect("reload of web failed")
        server.expect("the reload was taken back")
        (folder / "app.py").write_text(APP)
        server.expect("nothing has changed")

        assert "hello" in ask(one)
        assert "hello" in ask(two)
        eventually(lambda: not is_open(three))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_who_waits_for_a_stopped_watcher_is_answered_although_its_socket_has_moved(folder: Path, kind: str) -> None:
    here, there = free_ports(2)
    path, other = folder / "web.sock", folder / "moved.sock"
    before = socket_section("web", here) if kind == "tcp" else f"[socket:web]\npath = {path}\n"
    after = socket_section("web", there) if kind == "tcp" else f"[socket:web]\npath = {other}\n"
    with running("--control", str(folder / "control"), cwd=folder, config=before + watcher("web")) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        ctl(folder, "stop", "web")
        with socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(("127.0.0.1", here) if kind == "tcp" else str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for _ in range(2):
                reload(server, after + watcher("web"))
                server.expect("configuration read again")
            ctl(folder, "start", "web")
            answer = client.makefile("rb").read()
        eventually(lambda: len(server.children()) == 1)
        eventually(lambda: not is_open(here) and not path.exists())

        assert b"hello" in answer


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_waits_for_a_watcher_that_is_stopped_and_then_removed_is_reset_with_a_warning(
    folder: Path, kind: str
) -> None:
    here, other = free_ports(2)
    path = folder / "web.sock"
    stays = socket_section("other", other) + watcher("other", sock="other")
    goes = (socket_section("web", here) if kind == "tcp" else f"[socket:web]\npath = {path}\n") + watcher("web")
    with running("--control", str(folder / "control"), cwd=folder, config=stays + goes) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        ctl(folder, "stop", "web")
        with socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(("127.0.0.1", here) if kind == "tcp" else str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            reload(server, stays)
            server.expect(
                "WARNING.*socket web: closed at .*what waited in it is reset, since nothing is left that reads"
            )
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert "hello" in ask(other)
        eventually(lambda: len(server.children()) == 1)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_who_waits_for_a_watcher_in_back_off_is_answered_before_it_is_removed(folder: Path, kind: str) -> None:
    here, other = free_ports(2)
    path = folder / "web.sock"
    (folder / "fails.py").write_text("import os\nassert os.path.exists('mended')\n" + APP)
    stays = socket_section("other", other) + watcher("other", sock="other")
    goes = socket_section("web", here) if kind == "tcp" else f"[socket:web]\npath = {path}\n"
    goes += watcher("web", "max_retry = -1", "backoff = 1", "backoff_max = 1", app="fails")
    with running(cwd=folder, config=stays + goes) as server:
        server.allow("AssertionError|Traceback|fails|os.path", r"web\[1\]")
        server.expect(r"web\[1\].*restart in")
        with socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(("127.0.0.1", here) if kind == "tcp" else str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            reload(server, stays)
            server.expect("web goes")
            (folder / "mended").touch()
            answer = client.makefile("rb").read()
        eventually(lambda: not is_open(here) and not path.exists())
        assert b"hello" in answer
