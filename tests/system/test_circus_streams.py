"""Circus's two streams: its own consumers, plugins, circus-top and circusd-stats read what forkserve publishes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from forkserve.sidecars.circus.publishing import Publisher
from tests.support.circusing import circusd_like, endpoint, told

WATCHERS = """
[socket:web]
host = 127.0.0.1
port = 0

[watcher:web]
cmd = /bin/sh -c "exec sleep 1000" web $(circus.sockets.web)
use_sockets = True
numprocesses = 2
ready_after = 0.05
copy_env = True

[watcher:My Job]
cmd = sleep 1000
ready_after = 0.05
"""
BIN = Path(sys.executable).parent


@contextlib.contextmanager
def subscribed(address: str, *topics: bytes) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RCVTIMEO, 15_000)
        for topic in topics:
            client.subscribe(topic)
        client.connect(address)
        yield client


def streams(place: Path) -> str:
    return f"pubsub_endpoint = {endpoint(place, 'pubsub')}\nstats_endpoint = {endpoint(place, 'stats')}"


def read_until(client: zmq.Socket[bytes], topic: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what comes, up to and with a topic."""
    found: list[tuple[str, dict[str, Any]]] = []
    while not found or found[-1][0] != topic:
        name, payload = client.recv_multipart()
        found.append((name.decode(), json.loads(payload)))
    return found


def test_every_topic_of_circus_is_published_in_its_order(tmp_path: Path) -> None:
    with (
        circusd_like(tmp_path, WATCHERS, circus=streams(tmp_path)) as master,
        subscribed(endpoint(tmp_path, "pubsub"), b"watcher.") as client,
    ):
        master.expect("listening at .*pubsub")
        while not client.poll(50):  # a subscription takes a moment to arrive
            told(tmp_path, "set", name="my job", options={"numprocesses": 1})
        assert told(tmp_path, "restart", name="web", waiting=True)["status"] == "ok"
        # what was published of the first start may come before
        begun = read_until(client, "watcher.web.kill")[-1]
        restarted = [begun, *read_until(client, "watcher.web.start")]
        restarted = [each for each in restarted if each[0].startswith("watcher.web.")]

        actions = [name.rpartition(".")[2] for name, _ in restarted]
        assert actions == ["kill", "kill", "reap", "reap", "stop", "spawn", "spawn", "start"]
        assert [payload["exit_code"] for name, payload in restarted if name.endswith("reap")] == [-15, -15]
        assert all(payload["process_pid"] > 0 for _, payload in restarted if "process_pid" in payload)
        assert all(isinstance(payload["time"], float) for _, payload in restarted)

        added = {"name": "new one", "cmd": "sleep 1000", "start": True, "options": {"ready_after": 0.05}}
        for command, properties, last in (
            ("add", added, "watcher.new_one.start"),
            ("rm", {"name": "new one"}, "watcher.new_one.remove"),
            ("set", {"name": "web", "options": {"max_retry": 9}}, "watcher.web.updated"),
            ("reload", {"name": "web"}, "watcher.web.reload"),
        ):
            assert told(tmp_path, command, **properties)["status"] == "ok"
            names = [name for name, _ in read_until(client, last)]
            assert command != "add" or "watcher.new_one.add" in names


PLUGIN = """
from circus.plugins import CircusPlugin

class Restarter(CircusPlugin):
    name = "restarter"

    def handle_recv(self, data):
        watcher, action, message = self.split_data(data)
        print(watcher, action, self.load_message(message)["time"] > 0, flush=True)
        if action == "reap":
            print("asked", sorted(self.call("list")["watchers"]), flush=True)
            self.cast("stop", name="my job")
"""


def test_a_plugin_of_circus_hears_asks_and_casts(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(PLUGIN)
    command = [BIN / "circus-plugin", "--endpoint", endpoint(tmp_path), "--pubsub", endpoint(tmp_path, "pubsub")]

    with circusd_like(tmp_path, WATCHERS, circus=streams(tmp_path)) as master:
        env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
        plugin = subprocess.Popen(
            [*command, "--check-delay", "5", "--config", "a:b", "ours.Restarter"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, bufsize=0,
        )  # fmt: skip
        try:
            assert plugin.stdout is not None
            said = b""
            while b"asked" not in said:  # it may have subscribed between a reap and what follows it
                told(tmp_path, "kill", name="web", waiting=True)
                while b"asked" not in said and select.select([plugin.stdout], [], [], 0.2)[0]:
                    said += plugin.stdout.readline()

            assert said.endswith(b"\nasked ['circusd-stats', 'my job', 'web']\n")
            master.expect("My Job: stopping")
        finally:
            plugin.kill()
            plugin.communicate()


def test_circus_top_and_the_client_of_statistics_see_what_runs(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS, circus=streams(tmp_path)) as master:
        master.expect("listening at .*stats")
        with subscribed(endpoint(tmp_path, "stats"), b"stat.") as client:
            found = dict(read_until(client, "stat.sockets"))

        shapes = {re.sub(r"\d+", "N", topic) for topic in found}
        per_process = next(payload for topic, payload in found.items() if re.fullmatch(r"stat\.web\.\d+", topic))
        assert shapes == {
            "stat.web.N", "stat.web", "stat.my job.N", "stat.my job", "stat.circus.N", "stat.circus",
            "stat.sockets.N", "stat.sockets",
        }  # fmt: skip
        assert {"cpu", "mem", "age", "pid", "name", "subtopic", "username", "cmdline"} <= per_process.keys()
        assert len(found["stat.web"]["pid"]) == 2 and found["stat.web"]["mem"] > 0
        assert found["stat.sockets"]["addresses"][0].startswith("127.0.0.1:")

        screen = _seen(BIN / "circus-top", "--endpoint", endpoint(tmp_path, "stats"), until="web")
        assert "Circus Top" in screen


def _seen(*command: str | Path, until: str) -> str:
    """Return what a program writes to a terminal, up to a text."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="100", LINES="30")
        os.execv(command[0], list(map(str, command)))
    seen, deadline = "", time.monotonic() + 20
    try:
        while until not in seen and time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert until in seen
    return seen


@pytest.mark.slow
def test_circusd_stats_runs_as_a_watcher_that_has_the_sockets(tmp_path: Path) -> None:
    words = f"--endpoint {endpoint(tmp_path)} --pubsub {endpoint(tmp_path, 'pubsub')}"
    statistician = f"""
[watcher:circusd-stats]
cmd = {BIN}/circusd-stats {words} --statspoint {endpoint(tmp_path, "theirs")}
use_sockets = True
copy_env = True
"""
    with (
        circusd_like(tmp_path, WATCHERS + statistician, circus=streams(tmp_path)),
        subscribed(endpoint(tmp_path, "theirs"), b"stat.") as client,
    ):
        found = dict(read_until(client, "stat.sockets"))

        assert {"stat.web", "stat.circus"} <= found.keys()


def test_a_subscriber_that_never_reads_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    messages, address = 30_000, f"ipc://{tmp_path}/p"
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket, context.socket(zmq.SUB) as reader:
        for each in (socket, reader):
            each.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 100)
        socket.bind(address)
        reader.setsockopt(zmq.RCVHWM, 0)
        reader.subscribe(b"t")
        reader.connect(address)
        with subscribed(address, b"t") as deaf:
            deaf.setsockopt(zmq.RCVTIMEO, 0)
            publisher = Publisher(socket, "pubsub_endpoint")
            while not publisher.has_subscribers:
                socket.poll(100)
            with caplog.at_level(logging.WARNING, "forkserve.circus"):
                for number in range(messages):
                    publisher.publish("t", {"number": number, "text": "x" * 200})
                    if number % 50 == 0:
                        _drain(reader)

    assert [record.message for record in caplog.records] == [
        "pubsub_endpoint: a subscriber does not read, messages for it are dropped"
    ]


def _drain(reader: zmq.Socket[bytes]) -> None:
    while reader.poll(0):
        reader.recv_multipart()
