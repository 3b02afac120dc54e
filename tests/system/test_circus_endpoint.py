"""Circus's control endpoint: its own programs drive forkserve, and what is no request of theirs hurts nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from tests.support.circusing import circusctl, circusd_like, endpoint, told
from tests.support.forkserving import eventually, running

WATCHERS = """
[watcher:web]
cmd = sleep 1000
numprocesses = 2
ready_after = 0.05

[watcher:Beat]
cmd = sleep 1000
autostart = False
ready_after = 0.05
"""


@contextmanager
def dealer(place: Path, kind: int = zmq.DEALER) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RCVTIMEO, 15_000)
        client.connect(endpoint(place))
        yield client


def ask(client: zmq.Socket[bytes], **message: Any) -> dict[str, Any]:
    client.send(json.dumps(message).encode())
    answer: dict[str, Any] = json.loads(client.recv())
    return answer


def test_circusctl_drives_watchers_and_waits_for_the_end(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS) as master:
        assert circusctl(tmp_path, "list").stdout == "beat,web\n"
        assert circusctl(tmp_path, "status").stdout == "Beat: stopped\nweb: active\n"
        assert circusctl(tmp_path, "start", "B*", "--waiting").stdout == "ok\n"
        assert circusctl(tmp_path, "incr", "web", "--waiting").stdout == "3\n"
        assert circusctl(tmp_path, "stop", "WEB", "--waiting").stdout == "ok\n"
        assert circusctl(tmp_path, "status").stdout == "Beat: active\nweb: stopped\n"

        unknown = circusctl(tmp_path, "list", "nosuch")

        assert (unknown.returncode, unknown.stderr) == (3, "error: program nosuch not found\n")

        ended = circusctl(tmp_path, "quit", "--waiting")

        assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr
        assert master.wait() == 0


def test_what_is_no_request_is_refused_and_the_client_goes_on(tmp_path: Path) -> None:
    garbage = (b"", b"  ", b"{", b"\xff\xfe", b"[]", b'"x"', b'{"id": "a"}', b'{"command": 5}', b"[" * 50_000)

    with circusd_like(tmp_path, WATCHERS), dealer(tmp_path) as client:
        for each in garbage:
            client.send(each)
            answer = json.loads(client.recv())

            assert answer["status"] == "error" and answer["errno"] in (1, 3), each

        client.send_multipart([b"one", b"two", b"three"])
        cases = (
            ({"command": "nosuch", "id": 1}, 2),
            ({"command": "start", "properties": [], "id": 1}, 3),
            ({"command": "list", "properties": {"name": 7}, "id": 1}, 3),
            ({"command": "incr", "properties": {"name": "web", "nb": "x"}, "id": 1}, 3),
            ({"command": "incr", "id": 1}, 3),
            ({"command": "stop", "properties": {"name": "((a+)+)+", "match": "regex"}, "id": 1}, 3),
            ({"command": "stop", "properties": {"name": "(", "match": "regex"}, "id": 1}, 3),
        )
        for message, errno in cases:
            answer = ask(client, **message)

            assert (answer["status"], answer["errno"], answer["id"]) == ("error", errno, 1), (message, answer)

        assert ask(client, command="LIST", id="x")["watchers"] == ["beat", "web"]


def test_options_have_the_types_of_circus_and_are_in_force_when_it_is_answered(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS) as _master, dealer(tmp_path) as client:

        def set_options(waiting: bool = False, **options: Any) -> dict[str, Any]:
            return ask(client, command="set", properties={"name": "web", "options": options, "waiting": waiting}, id=1)

        def get(key: str) -> Any:
            return ask(client, command="get", properties={"name": "web", "keys": [key]}, id=1)["options"][key]

        for options in (
            {"env": {"A": 2}}, {"env": "A=1"}, {"numprocesses": "2"}, {"graceful_timeout": "x"}, {"respawn": 1},
            {"uid": 1.5}, {"stdout_stream": {"filename": "x"}}, {"hooks": []}, {"rlimit_nofile": "x"}, {"nosuch": 1},
        ):  # fmt: skip
            refused = set_options(**options)  # type: ignore[arg-type]
            assert (refused["status"], refused["errno"]) == ("error", 3), (options, refused)

        assert set_options(max_retry=9, retry_in=3)["status"] == "ok" and get("max_retry") == 9
        assert set_options(waiting=True, env={"A": "2"})["status"] == "ok" and get("env") == {"A": "2"}

        before = ask(client, command="list", properties={"name": "web"}, id=1)["pids"]
        assert set_options(waiting=True, max_age=100, max_age_variance=0)["status"] == "ok"
        after = ask(client, command="list", properties={"name": "web"}, id=1)["pids"]
        assert len(after) == 2 and not set(before) & set(after)

        stopped: list[dict[str, Any]] = [{"max_age": 100}, {"env": {"A": "2"}}, {"cmd": "sleep 999", "max_age": 9}]
        for each in stopped:  # which has nothing to replace
            properties = {"name": "Beat", "options": each, "waiting": True}
            assert ask(client, command="set", properties=properties, id=1)["status"] == "ok", each

        ask(client, command="add", properties={"name": "x", "cmd": "sleep 1000", "start": True}, id=1)
        assert ask(client, command="status", properties={"name": "x"}, id=1)["status"] in ("starting", "active")


def test_options_name_the_working_folder_and_what_is_set_of_a_stream(tmp_path: Path) -> None:
    stream = "stdout_stream.class = FileStream\nstdout_stream.filename = out\nstdout_stream.max_bytes = 1000\n"
    watchers = WATCHERS.replace("numprocesses = 2\n", f"working_dir = /\n{stream}")
    with circusd_like(tmp_path, watchers) as _master, dealer(tmp_path) as client:
        web, beat = (ask(client, command="options", properties={"name": name})["options"] for name in ("web", "beat"))
        got = ask(client, command="get", properties={"name": "beat", "keys": ["working_dir"]})["options"]

        assert (web["working_dir"], beat["working_dir"], got) == ("/", str(tmp_path), {"working_dir": str(tmp_path)})
        assert web["stdout_stream_conf"] == {"class": "FileStream", "filename": "out", "max_bytes": 1000}
        assert (web["stderr_stream_conf"], beat["stdout_stream_conf"]) == ({}, {})


def test_a_watcher_is_active_once_its_processes_run_since_circus_waits_for_no_more(tmp_path: Path) -> None:
    never = "\n[watcher:never]\ncmd = sleep 1000\nready_after = 1000\nautostart = False\n"
    with circusd_like(tmp_path, WATCHERS + never) as _master, dealer(tmp_path) as client:
        ask(client, command="start", properties={"name": "never"}, id=1)
        seen = {"command": "status", "properties": {"name": "never"}, "id": 1}
        eventually(lambda: ask(client, **seen)["status"] == "active")


def test_a_watcher_of_no_processes_is_stopped_until_there_are_some(tmp_path: Path) -> None:
    with circusd_like(tmp_path, "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 0\n"):
        assert circusctl(tmp_path, "status", "web").stdout == "stopped\n"
        assert circusctl(tmp_path, "incr", "web", "--waiting").stdout == "1\n"
        assert circusctl(tmp_path, "status", "web").stdout == "active\n"
        assert circusctl(tmp_path, "decr", "web", "--waiting").stdout == "0\n"
        assert circusctl(tmp_path, "status", "web").stdout == "stopped\n"


def test_a_cast_is_not_answered_and_a_slow_command_holds_up_no_other(tmp_path: Path) -> None:
    stubborn = "\n[watcher:stubborn]\ncmd = /bin/sh -c \"trap '' TERM; echo on; while :; do sleep 1000; done\"\n"
    slow = f"{stubborn}copy_env = True\ngraceful_timeout = 2\nready_after = 0.05\n"

    with circusd_like(tmp_path, WATCHERS + slow) as master, dealer(tmp_path) as client:
        master.allow("SIGKILL", "killed$")
        master.rewound().expect("^on$")
        client.send(
            json.dumps({"command": "stop", "properties": {"name": "stubborn", "waiting": True}, "id": 1}).encode()
        )
        client.send(json.dumps({"command": "incr", "properties": {"name": "web"}, "msg_type": "cast"}).encode())

        assert ask(client, command="status", properties={"name": "stubborn"}, id=2)["status"] == "stopping"
        assert json.loads(client.recv())["id"] == 1

        with dealer(tmp_path, zmq.REQ) as request:
            assert ask(request, command="numwatchers", id=3)["numwatchers"] == 3


def test_half_a_frame_or_a_stranger_on_the_socket_hurts_nobody(tmp_path: Path) -> None:
    strangers = (b"", b"\xff", b"GET / HTTP/1.1\r\n\r\n", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03", os.urandom(4096))

    with circusd_like(tmp_path, WATCHERS):
        opened = []
        for each in strangers:
            stranger = socket.socket(socket.AF_UNIX)
            stranger.connect(endpoint(tmp_path).removeprefix("ipc://"))
            stranger.sendall(each)
            opened.append(stranger)

        assert circusctl(tmp_path, "numprocesses").stdout == "2\n"
        for stranger in opened:
            stranger.close()


def test_two_hundred_clients_at_once_are_answered_on_each_face(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS), zmq.Context() as context, contextlib.ExitStack() as stack:
        dealers = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(200)]
        direct = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(200)]
        for each in dealers:
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, 15_000)
            each.connect(endpoint(tmp_path))
            each.send(b'{"command": "status", "id": "x"}')
        for client in direct:
            client.settimeout(15)
            client.connect(str(tmp_path / "control"))
            client.sendall(b"GET /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n")

        assert [json.loads(each.recv())["statuses"]["web"] for each in dealers] == ["active"] * 200
        assert [each.recv(12) for each in direct] == [b"HTTP/1.1 200"] * 200


def test_an_endpoint_that_dies_is_served_again(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS) as master:
        os.kill(_endpoint_pid(master.pid), signal.SIGKILL)
        master.expect("the circus endpoint .* has died: another takes its place")
        master.expect("forkserve.circus: listening at")

        assert circusctl(tmp_path, "numprocesses").stdout == "2\n"
        os.kill(_endpoint_pid(master.pid), signal.SIGKILL)
        master.expect("the circus endpoint .* has died: another takes its place")
    assert not list(tmp_path.glob("*.sock")), "neither the killed one nor the master has removed the file"


CLIENTS = """
import json, sys
from tornado import gen, ioloop
from circus.client import AsyncCircusClient, CircusClient
from circus.consumer import CircusConsumer

endpoint, pubsub = sys.argv[1:]
client = CircusClient(endpoint=endpoint, timeout=10)
print(client.send_message("incr", name="web", waiting=True)["numprocesses"])
print(client.call({"command": "status", "properties": {"name": "beat"}})["status"])

async def ask():
    asking = AsyncCircusClient(endpoint=endpoint, timeout=10)
    answer = await asking.send_message("list")
    asking.stop()
    return answer["watchers"]

print(ioloop.IOLoop.current().run_sync(ask))
for topic, message in CircusConsumer([b"watcher.beat."], endpoint=pubsub):
    print(topic.decode(), sorted(json.loads(message)))
    break
client.stop()
"""


def test_the_client_classes_of_circus_work_unmodified(tmp_path: Path) -> None:
    more = f"pubsub_endpoint = {endpoint(tmp_path, 'pubsub')}"
    with circusd_like(tmp_path, WATCHERS, circus=more) as master:
        command = [sys.executable, "-u", "-c", CLIENTS, endpoint(tmp_path), endpoint(tmp_path, "pubsub")]
        clients = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert clients.stdout is not None
        try:
            assert [clients.stdout.readline().strip() for _ in range(3)] == ["3", "stopped", "['beat', 'web']"]
            while not select.select([clients.stdout], [], [], 0.1)[0]:  # a subscription takes a moment to arrive
                told(tmp_path, "set", name="Beat", options={"max_retry": 1})
                told(tmp_path, "set", name="Beat", options={"max_retry": 2})
            assert clients.stdout.readline().strip() == "watcher.beat.updated ['id', 'time']"
            assert clients.wait(10) == 0
        finally:
            clients.kill()
            clients.communicate()
        master.expect("Beat changes")


def test_frames_of_chance_are_answered_or_dropped_and_the_endpoint_goes_on(tmp_path: Path) -> None:
    chance = random.Random(1)
    words = ["command", "properties", "name", "web", "id", "status", "signal", "signum", "match", "waiting", "options"]
    names = ["list", "status", "get", "options", "stats", "signal", "set", "add", "incr", "globaloptions", "listen"]

    def value(depth: int) -> Any:
        kinds = [None, True, -1, 2**70, 1.5, "", "w\x00b", chance.choice(words), [], {}]
        if depth and chance.random() < 0.5:
            return {chance.choice(words): value(depth - 1) for _ in range(chance.randrange(4))}
        return chance.choice(kinds)

    with circusd_like(tmp_path, WATCHERS), dealer(tmp_path) as client:
        for number in range(400):
            message = {"command": chance.choice(names), "properties": value(3), "id": number}
            text = json.dumps(message).encode()
            if chance.random() < 0.3:
                cut = chance.randrange(len(text))
                text = text[:cut] + chance.randbytes(3) + text[cut:]
            client.send_multipart([text] if number % 9 else [chance.randbytes(5)] * chance.randrange(2, 5))
        # one that asks without end, and does not read, is refused until what it has asked is done
        eventually(lambda: ask_last(client, command="numwatchers", id="last")["status"] == "ok")


def ask_last(client: zmq.Socket[bytes], **message: Any) -> dict[str, Any]:
    """Ask, and skip the answers to what was asked before."""
    client.send(json.dumps(message).encode())
    while (answer := json.loads(client.recv()))["id"] != message["id"]:
        pass
    return dict(answer)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06%s\x08Identity\x00\x00\x00\x00"


def _session(chance: random.Random, kind: bytes, message: bytes) -> bytes:
    """Return what a client of ZMTP 3.0 (RFC 23) sends, somewhere of which a few bytes are others or missing."""
    ready = READY % kind
    frames = b"\x04" + bytes([len(ready)]) + ready + bytes([0, len(message)]) + message
    wrong = chance.choice(
        (
            b"",
            b"\x02" + b"\x7f" * 8,  # a frame of 2**62 bytes
            b"\x02" + (1 << 31).to_bytes(8) + b"x",
            b"\x03" + bytes(8) + bytes([0, 0]),
            b"\x04\xff" + chance.randbytes(255),
            chance.randbytes(chance.randrange(1, 60)),
        )
    )
    data = bytearray(GREETING + frames + wrong)
    for _ in range(chance.randrange(4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(len(data) // 2, len(data) + 1)])


def test_bytes_of_chance_on_the_sockets_hurt_nobody_and_cost_no_memory(tmp_path: Path) -> None:
    chance = random.Random(2)
    kinds = {"circus": (b"DEALER", b'{"command": "list"}'), "pubsub": (b"SUB", b"\x01watcher.")}
    more = f"pubsub_endpoint = {endpoint(tmp_path, 'pubsub')}"
    with circusd_like(tmp_path, WATCHERS, circus=more) as master, dealer(tmp_path) as client:
        master.expect("listening at .*pubsub")
        before = psutil.Process(_endpoint_pid(master.pid)).memory_info().rss
        with contextlib.ExitStack() as stack:
            for number in range(150):
                name = "pubsub" if number % 3 == 0 else "circus"
                stranger = stack.enter_context(socket.socket(socket.AF_UNIX))
                stranger.connect(endpoint(tmp_path, name).removeprefix("ipc://"))
                with contextlib.suppress(OSError):  # refused while it is being sent
                    stranger.sendall(_session(chance, *kinds[name]))
                if number % 2:
                    stranger.close()
            assert ask(client, command="list", id=1)["watchers"] == ["beat", "web"]
            process = psutil.Process(_endpoint_pid(master.pid))
            assert process.memory_info().rss - before < 64 * 1024 * 1024


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to somebody else")
def test_only_watchers_of_the_owner_are_added_at_an_endpoint_with_an_owner(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS, circus="endpoint_owner = nobody"), dealer(tmp_path) as client:
        assert os.stat(endpoint(tmp_path).removeprefix("ipc://")).st_uid == pwd.getpwnam("nobody").pw_uid

        for options in ({}, {"uid": "root"}, {"uid": 0}):
            refused = ask(client, command="add", properties={"name": "x", "cmd": "sleep 1", "options": options}, id=1)
            assert refused["reason"] == "uid does not match endpoint_owner"

        options = {"uid": "nobody"}
        added = ask(client, command="add", properties={"name": "x", "cmd": "sleep 1", "options": options}, id=1)
        assert added["status"] == "ok"


def test_the_file_of_an_endpoint_is_for_its_owner_alone(tmp_path: Path) -> None:
    with circusd_like(tmp_path, WATCHERS):
        assert os.stat(endpoint(tmp_path).removeprefix("ipc://")).st_mode & 0o077 == 0


def test_without_pyzmq_one_line_says_what_to_install_and_the_rest_runs(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text("import sys\nsys.modules['zmq'] = None\n")
    env = {"PYTHONPATH": str(tmp_path / "without")}
    config = f"[circus]\nendpoint = {endpoint(tmp_path)}\n{WATCHERS}"

    with running("--control", str(tmp_path / "control"), cwd=tmp_path, config=config, env=env) as master:
        master.expect(r"stack.ini:2 \[circus\] endpoint: not served.*: pip install 'forkserve\[circus\]'")
        master.expect(r"web\[2\] .* started")

    command = [sys.executable, "-m", "forkserve", "check", "stack.ini"]
    checked = subprocess.run(command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True)

    assert "pip install 'forkserve[circus]'" in checked.stderr + checked.stdout


def _endpoint_pid(master: int) -> int:
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    (pid,) = [int(each) for each in children if b"circus endpoint" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return pid


def test_a_successor_has_another_wid_than_the_process_that_still_runs(tmp_path: Path) -> None:
    # sleep(1) shows what $(circus.wid) is; two processes with the same number would collide at their ports
    watchers = WATCHERS.replace("sleep 1000", "sleep 100$(circus.wid)", 1)
    with circusd_like(tmp_path, watchers) as _master, dealer(tmp_path) as client:

        def wids() -> set[int]:
            infos = ask(client, command="stats", properties={"name": "web"})["info"]
            for pid, info in infos.items():
                assert Path(f"/proc/{pid}/cmdline").read_bytes() == f"sleep\x00100{info['wid']}\x00".encode()
            return {info["wid"] for info in infos.values()}

        eventually(lambda: ask(client, command="status", properties={"name": "web"})["status"] == "active")
        for expected in ({1, 2}, {3, 4}, {1, 2}):
            assert wids() == expected
            ask(client, command="reload", properties={"name": "web", "waiting": True})

        ask(client, command="set", properties={"name": "web", "options": {"numprocesses": 1}, "waiting": True})
        assert ask(client, command="numprocesses", properties={"name": "web"})["numprocesses"] == 1


def test_what_publishes_statistics_is_listed_as_the_watcher_that_circus_has_for_it(tmp_path: Path) -> None:
    more = f"statsd = True\nstats_endpoint = {endpoint(tmp_path, 'stats')}"
    with circusd_like(tmp_path, WATCHERS, circus=more) as _master, dealer(tmp_path) as client:
        assert ask(client, command="list")["watchers"] == ["beat", "circusd-stats", "web"]
        assert ask(client, command="status")["statuses"]["circusd-stats"] == "active"
        assert ask(client, command="status", properties={"name": "circusd-stats"})["status"] == "active"
        assert ask(client, command="numwatchers")["numwatchers"] == 3
        assert ask(client, command="numprocesses")["numprocesses"] == 3
        (pid,) = ask(client, command="list", properties={"name": "circusd-stats"})["pids"]
        assert list(ask(client, command="stats")["infos"]["circusd-stats"]) == [str(pid)]
        assert list(ask(client, command="stats", properties={"name": "circusd-stats"})["info"]) == [str(pid)]
        for command in ("stop", "options", "incr"):
            refused = ask(client, command=command, properties={"name": "circusd-stats"})
            assert refused["reason"] == "circusd-stats is the program that serves these endpoints, and takes no orders"
        assert ask(client, command="stop", properties={"name": "nosuch"})["reason"] == "program nosuch not found"
    assert not list(tmp_path.glob("*.sock"))
