"""Plugins of Circus, and a user's own class of them, beside a real forkserve."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, running

MINE = """
from circus.plugins import CircusPlugin

class Mine(CircusPlugin):
    name = "mine"

    def __init__(self, *args, **config):
        super().__init__(*args, **config)
        self.greeting = config["greeting"]

    def handle_recv(self, data):
        watcher, action, _ = self.split_data(data)
        if (watcher, action) == ("web", "updated"):
            print("HEARD", self.greeting, self.call("numprocesses", name="web")["numprocesses"], flush=True)

    def handle_stop(self):
        print("STOPPED", flush=True)
"""


def test_a_class_of_the_users_runs_unmodified_without_configured_endpoints(tmp_path: Path) -> None:
    (tmp_path / "myplugins.py").write_text(MINE)
    config = (
        "[watcher:web]\ncmd = sleep 1000\nready_after = 0.05\n"
        "[plugin:mine]\nuse = myplugins.Mine\ngreeting = hello dear world\n"
        f"[env:plugin:*]\nPYTHONPATH = {tmp_path}\n"
    )
    control = str(tmp_path / "control")
    with running("--control", control, cwd=tmp_path, config=config) as master:
        master.started("plugin:mine[1]")
        forkservectl = [str(Path(sys.executable).parent / "forkservectl"), "--socket", control]

        def resize() -> None:
            for verb in ("incr", "decr"):
                subprocess.run([*forkservectl, verb, "web"], check=True, capture_output=True)

        _until(master, r"HEARD hello dear world \d", resize)
        assert master.stop() == 0
        assert "STOPPED" in master.lines


def test_the_plugins_of_circus_do_what_they_did(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd, socket.socket() as closed:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(20)
        closed.bind(("127.0.0.1", 0))  # nobody listens
        shutil.copy("/bin/sleep", tmp_path / "prog")
        config = f"""
[watcher:crashes]
cmd = false
max_retry = -1
backoff = 0.05
flapping.retry_in = 0.3
[watcher:observed]
cmd = sleep 1000
ready_after = 0.05
[watcher:replaced]
cmd = {tmp_path}/prog 1000
ready_after = 0.05
[plugin:flap]
use = circus.plugins.flapping.Flapping
max_retry = 1
[plugin:statsd]
use = circus.plugins.statsd.StatsdEmitter
application_name = shop
port = {statsd.getsockname()[1]}
[plugin:http]
use = circus.plugins.http_observer.HttpObserver
check_url = http://127.0.0.1:{closed.getsockname()[1]}/
restart_on_error = observed
loop_rate = 0.5
[plugin:programs]
use = circus.plugins.command_reloader.CommandReloader
loop_rate = 0.2
"""
        with running("--control", str(tmp_path / "control"), cwd=tmp_path, config=config) as master:
            master.expect("crashes: flapping detected: retry in 0.3 s")
            assert statsd.recv(1000).startswith(b"circus.shop.watcher.")
            master.rewound().expect(r"observed\[1\] pid \d+ was ended by SIGTERM")
            master.rewound().expect(r"plugin:programs\[1\] pid \d+ started")
            _until(master, "has changed: replaced is restarted", lambda: os.utime(tmp_path / "prog"))
            assert master.stop() == 0


def _until(master: Forkserve, pattern: str, act: Callable[[], None]) -> None:
    """Do something until it is heard of: a program that has just begun may not listen yet."""
    for _ in range(40):
        act()
        with contextlib.suppress(AssertionError):
            master.expect(pattern, timeout=0.5)
            return
    raise AssertionError(master.transcript())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_redis_is_asked_for_its_figures(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(20)
        config = f"""
[watcher:redis]
cmd = redis-server --port 0 --unixsocket {tmp_path}/redis.sock --save '' --dir {tmp_path}
copy_env = True
ready = unix:{tmp_path}/redis.sock
[plugin:redis]
use = circus.plugins.redis_observer.RedisObserver
redis_url = unix://{tmp_path}/redis.sock
port = {statsd.getsockname()[1]}
loop_rate = 0.2
after = redis
"""
        with running("--control", str(tmp_path / "control"), cwd=tmp_path, config=config) as master:
            found = b""
            while b"used_memory:" not in found:
                found = statsd.recv(1000)
            assert found.startswith(b"circus.redis_observer.watcher.redis_stats.used_memory:")
            assert master.stop() == 0
