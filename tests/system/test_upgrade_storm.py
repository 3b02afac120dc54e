"""The master is replaced twenty times under load, and killed fifty times: nothing is lost, the next always binds."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from forkserve.supervision.os.loop import LIMIT
from tests.support.forkserving import descriptors, eventually, pause
from tests.support.load import Load
from tests.support.stacks import WRITER, put_app, put_writer, web
from tests.system.test_upgrade import begun, upgradable

pytestmark = pytest.mark.slow


def config(port: int, watchers: int) -> str:
    more = "".join(f"[watcher:w{number}]\ncmd = sleep 100000\nready_after = 0.05\n" for number in range(watchers))
    return f"{web(port, grace=10)}{WRITER}{more}"


@pytest.mark.timeout(600)
def test_twenty_upgrades_under_load_with_reloads_a_stopped_child_and_a_hundred_watchers(tmp_path: Path) -> None:
    assert upgraded_under_load(tmp_path, 20, 100) > 0


def upgraded_under_load(folder: Path, count: int, watchers: int) -> int:
    """Upgrade a master so often, then to what cannot take over: nothing changes; returns the requests."""
    put_app(folder)
    put_writer(folder, pause=0.002)
    env = {LIMIT: "1"}  # a hundred starts on a busy machine are not what is looked at here
    last = rf"w{watchers - 1}\[1\] pid \d+ started"
    with upgradable(folder, config(0, watchers), last=last, env=env) as (server, address):
        server.allow("the upgrade has failed")
        stopped = server.rewound().started("w0[1]")
        pause(stopped)
        before = {each.pid for each in server.children()}
        web = {server.rewound().started("web[1]"), server.started("web[2]")}
        fds = descriptors(server.pid)
        with Load(address, clients=4) as load:
            for number in range(count):
                with contextlib.ExitStack() as stack:
                    client = stack.enter_context(ControlClient(folder / "ctl.sock", timeout=120))
                    reload = stack.enter_context(begun(folder, "reload", "web")) if number % 4 == 3 else None
                    if reload is not None:
                        server.expect(r"web: replacing|web\[\d\] pid \d+ started")
                    assert "upgraded" in client.call("upgrade")["message"]
                    if reload is not None:
                        assert reload.communicate(timeout=60)[0] == "web: 2 processes replaced\n"
            with (
                ControlClient(folder / "ctl.sock", timeout=60) as client,
                pytest.raises(ControlError, match="everything stays as it is"),
            ):
                client.call("upgrade", python="/bin/false")
            load.more(50)
        answered = load.answered
        assert (load.lost, load.refused) == ([], 0), f"of {answered}"
        eventually(lambda: before - {each.pid for each in server.children()} == web)
        eventually(lambda: descriptors(server.pid) <= fds + 2)
        os.kill(stopped, signal.SIGCONT)
    lines = (folder / "writer.log").read_text().splitlines()
    assert lines == [str(number) for number in range(len(lines))], "a line of the log is lost"
    return answered


@pytest.mark.timeout(600)
def test_fifty_masters_are_killed_at_any_moment_and_the_next_always_binds(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, 50)


def killed_again_and_again(folder: Path, count: int) -> None:
    """Kill masters of one address so often, each as soon as the one before is gone; raises AssertionError."""
    put_app(folder)
    put_writer(folder, pause=0.002)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "stack.ini").write_text(config(port, 1))
    chance = random.Random(7)
    for _ in range(count):
        _lives_for_a_while(folder, chance)


def _lives_for_a_while(folder: Path, chance: random.Random) -> None:
    """Start a master, and kill it at some moment: before or after it serves, or in the middle of an upgrade."""
    text = folder / "log"
    with text.open("w") as log:
        command = [sys.executable, "-m", "forkserve", "--control", str(folder / "ctl.sock"), "-c", "stack.ini"]
        master = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    eventually(lambda: "listening at" in text.read_text() or master.poll() is not None, timeout=60)
    assert master.poll() is None, text.read_text()
    if chance.random() < 0.5:
        eventually(lambda: "is ready" in text.read_text(), timeout=60)
        if chance.random() < 0.5:
            master.send_signal(signal.SIGUSR2)
            eventually(lambda: "upgrading to" in text.read_text(), timeout=60)
    try:
        master.wait(chance.random() * 0.8)
    except subprocess.TimeoutExpired:
        master.kill()
    assert master.wait(20) == -signal.SIGKILL
