"""Watchers that come after others: they start when those are ready, stop before them, and may follow their fate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from tests.support.forkserving import Forkserve, running

DB = """
import os, signal, socket
open("go").read()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.connect(os.environ["NOTIFY_SOCKET"])
    sock.send(b"READY=1")
signal.pause()
"""
"""Is ready when the test writes to the FIFO `go`, each time."""

STACK = """
[watcher:web]
cmd = sleep 1000
ready_after = 0
after = DB
{}
[watcher:db]
cmd = {} -S db.py
ready_after = 1000
max_retry = -1
backoff = 0
"""


def stack(folder: Path, more: str = "") -> str:
    (folder / "db.py").write_text(DB)
    os.mkfifo(folder / "go")
    return STACK.format(more, sys.executable)


def go(folder: Path) -> None:
    (folder / "go").write_text("now")


def _position(server: Forkserve, pattern: str) -> int:
    return next(number for number, line in enumerate(server.lines) if pattern in line)


def test_a_watcher_starts_when_what_it_comes_after_is_ready_and_stops_before_it(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=stack(tmp_path)) as server:
        server.expect_all(r"web: waits for db to be ready \(after\)", r"db\[1\] pid \d+ started")
        go(tmp_path)
        db = server.expect(r"db\[1\] pid \d+ is ready")[0]
        server.expect(r"web\[1\] pid \d+ started")

        assert server.stop() == 0
        positions = [_position(server, each) for each in (db, "web[1] pid", "web: stopping", "db: stopping")]
        assert positions == sorted(positions)


@pytest.mark.parametrize("wanted", ["keep", "restart", "stop"])
def test_what_comes_after_a_watcher_that_is_lost_follows_it_as_it_is_told(tmp_path: Path, wanted: str) -> None:
    control = str(tmp_path / "control")
    config = stack(tmp_path, f"on_dependency = {wanted}")
    with running("--control", control, cwd=tmp_path, config=config) as server, ControlClient(Path(control)) as ctl:
        server.allow("SIGKILL")
        go(tmp_path)
        db, web = server.started("db[1]"), server.started("web[1]")
        os.kill(db, signal.SIGKILL)
        if wanted != "keep":
            server.expect(rf"web: db is no longer ready: {wanted} \(on_dependency\)")
            server.expect(rf"web\[1\] pid {web} was ended by SIGTERM")
        go(tmp_path)
        if wanted == "restart":
            server.expect(r"db\[1\] pid \d+ is ready")
            assert server.started("web[1]") != web
        else:
            server.rewound().expect(rf"db\[1\] pid (?!{db})\d+ is ready")
        pids = [each["pid"] for each in ctl.call("status", watcher="web")[0]["processes"]]
        assert pids == [web] if wanted == "keep" else web not in pids


def test_a_start_after_what_is_stopped_is_refused(tmp_path: Path) -> None:
    control = str(tmp_path / "control")
    config = stack(tmp_path, "autostart = False") + "autostart = False\n[watcher:other]\ncmd = sleep 1000\n"
    with running("--control", control, cwd=tmp_path, config=config) as server, ControlClient(Path(control)) as ctl:
        server.started("other[1]")
        with pytest.raises(ControlError, match="web starts after db, which is stopped: start it first"):
            ctl.call("start", watcher="web")
        ctl.call("start", watcher="db", waiting=False)
        ctl.call("start", watcher="web", waiting=False)
        go(tmp_path)
        assert "1 process running" in ctl.call("start", watcher="web")["message"]


def test_a_stack_ends_when_what_all_comes_after_is_given_up(tmp_path: Path) -> None:
    config = "[watcher:web]\ncmd = sleep 1000\nafter = db\n[watcher:db]\ncmd = false\nmax_retry = 1\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("given up", "gave up", "giving up")
        assert server.wait() == 70
        assert "web[1]" not in server.transcript()


@pytest.mark.parametrize(
    ("after", "error"),
    [
        ({"a": "b", "b": "c", "c": "b"}, "[watcher:b] after: a cycle: b after c after b"),
        ({"a": "a"}, "[watcher:a] after: a cycle: a after a"),
        ({"web": "redsi", "redis": ""}, "[watcher:web] after: unknown watcher 'redsi'; did you mean 'redis'?"),
    ],
)
def test_orders_that_cannot_be_are_errors_of_the_check_and_of_the_start(
    tmp_path: Path, after: dict[str, str], error: str
) -> None:
    lines = [f"[watcher:{name}]\ncmd = sleep 1\nafter = {names}\n" for name, names in after.items()]
    (tmp_path / "stack.ini").write_text("".join(lines))
    for words in (["check", "stack.ini"], ["-c", "stack.ini"]):
        done = subprocess.run(
            [sys.executable, "-m", "forkserve", *words], cwd=tmp_path, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 78
        assert error in done.stdout + done.stderr
