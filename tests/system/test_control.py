"""Control of a real master: by forkservectl, by curl, and by nobody else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.forkserving import Forkserve, running

CONFIG = """
[watcher:sleeper]
cmd = sleep 1000
numprocesses = 2
ready_after = 0.05

[watcher:slow]
cmd = /bin/sh -c "trap '' TERM; echo trapped >&2; while :; do sleep 1000; done"
graceful_timeout = 30
copy_env = True
ready_after = 0.05

[watcher:off]
cmd = sleep 1000
autostart = False
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


@contextlib.contextmanager
def controlled(place: Path) -> Iterator[Forkserve]:
    """Run the stack with its control socket in a folder of the test's own."""
    env = {"XDG_RUNTIME_DIR": str(place / "run")}
    with running("--control", "auto", "--log-level", "debug", cwd=place, config=CONFIG, env=env) as master:
        master.allow("SIGKILL")
        yield master


def environ(place: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(place / "run"), "PATH": "/usr/bin:/bin"}


def ctl(place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return commands.ctl(place, "-c", "stack.ini", *argv, env=environ(place))


def answer(place: Path, *argv: str) -> str:
    done = ctl(place, *argv)

    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(place: Path, path: str, *options: str) -> tuple[int, object]:
    (socket,) = place.glob("run/forkserve/*.sock")
    command = ["curl", "-sS", "-m", "10", "-w", "\n%{http_code}", "--unix-socket", str(socket), *options]
    done = subprocess.run([*command, f"http://localhost{path}"], capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def interrupt_twice(master: Forkserve) -> None:
    master.send(2)
    master.expect("SIGINT")
    master.send(2)

    assert master.wait() == 1, "a stop that was cut short is no ordered stop"


def test_every_verb_does_what_it_says(place: Path) -> None:
    with controlled(place) as master:
        master.expect_all(r"sleeper\[1\] .* is ready", r"sleeper\[2\] .* is ready", r"slow\[1\] .* is ready")

        assert answer(place, "list").split() == ["sleeper", "slow", "off"]

        table = answer(place, "status").splitlines()

        assert table[0].split() == ["WATCHER", "STATE", "PID", "WID", "GEN", "UPTIME", "RESTARTS", "CPU", "MEMORY"]
        assert table[1].split()[:2] == ["sleeper", "ready"]
        assert table[4].split()[:2] == ["off", "stopped"]

        assert "3 processes" in answer(place, "incr", "sleeper")
        assert "1 process" in answer(place, "decr", "sleeper", "2")
        assert "4 processes" in answer(place, "set", "sleeper", "numprocesses=4")

        before = {each["pid"] for each in json.loads(answer(place, "status", "sleeper", "--json"))[0]["processes"]}
        answer(place, "reload", "sleeper")
        after = {each["pid"] for each in json.loads(answer(place, "status", "sleeper", "--json"))[0]["processes"]}

        assert len(before) == 4
        assert not before & after

        answer(place, "start", "off")

        assert "ready" in answer(place, "status", "off")

        answer(place, "restart", "off")
        answer(place, "stop", "off")

        assert "stopped" in answer(place, "status", "off")

        answer(place, "signal", "sleeper", "KILL", "--wid", "1")
        master.expect(r"sleeper\[1\] pid \d+ was ended by SIGKILL")
        master.expect(r"sleeper\[1\] .* is ready")
        (report,) = json.loads(answer(place, "stats", "sleeper", "--json"))

        assert report["restarts"] == 1
        assert all(each["memory"] > 0 and each["fds"] == 3 for each in report["processes"])

        answer(place, "quit", "--no-wait")
        master.expect("slow: stopping")
        master.send(2)

        assert master.wait() == 1


def test_quit_waits_until_all_has_ended(place: Path) -> None:
    with controlled(place) as master:
        master.expect("slow.*is ready")
        answer(place, "stop", "slow", "--no-wait")
        answer(place, "signal", "slow", "KILL")

        assert answer(place, "quit") == "forkserve has stopped\n"
        assert master.wait() == 0


def test_verbs_for_all_leave_alone_what_does_not_start_with_the_others(place: Path) -> None:
    with controlled(place) as master:
        master.expect("slow.*is ready")
        answer(place, "stop", "slow", "--no-wait")
        answer(place, "signal", "slow", "KILL")
        answer(place, "stop", "slow")

        assert answer(place, "reload") == "reloaded; slow, off stopped, left alone\n"
        answer(place, "start")

        assert "stopped" in answer(place, "status", "off")
        assert "ready" in answer(place, "status", "slow")
        answer(place, "stop", "slow", "--no-wait")
        answer(place, "signal", "slow", "KILL")


def test_mistakes_are_one_line_and_exit_codes_tell_them_apart(place: Path) -> None:
    with controlled(place) as master:
        master.expect("slow.*is ready")
        for argv, code, text in (
            (("stop", "sleper"), 1, "did you mean 'sleeper'"),
            (("set", "sleeper", "numprocesses=many"), 1, "expected an integer"),
            (("set", "sleeper", "cmd=true"), 1, "cmd takes new processes"),
            (("set", "sleeper", "nunprocesses=1"), 1, "did you mean 'numprocesses'"),
            (("signal", "sleeper", "NONE"), 1, "expected a signal"),
            (("signal", "sleeper", "HUP", "--pid", "1"), 1, "sleeper: no such process, 1\n"),
            (("stop", "sleeper", "--waitng"), 2, "did you mean '--waiting'? (see forkservectl stop --help)"),
            (("incr", "sleeper", "x"), 2, "invalid int"),
            (("strt",), 2, "there is no verb 'strt'; did you mean 'start'?"),
            (("--timeout", "0.2", "stop", "slow"), 75, "no answer"),
        ):
            done = ctl(place, *argv)

            assert (done.returncode, text in done.stderr) == (code, True), (argv, done)
            assert "Traceback" not in done.stderr

        interrupt_twice(master)
    done = ctl(place, "status")

    assert done.returncode == 1
    assert "no forkserve runs stack.ini" in done.stderr


def test_a_long_stop_of_one_watcher_holds_up_no_other_command_and_no_signal(place: Path) -> None:
    with controlled(place) as master:
        master.expect("^trapped")
        master.rewound().expect("slow.*is ready")
        command = [sys.executable, "-m", "forkserve.cli.ctl", "-c", "stack.ini", "stop", "slow"]
        stopping = subprocess.Popen(command, cwd=place, env=environ(place), stdout=subprocess.DEVNULL)
        master.expect("slow: stopping")

        assert "running" in answer(place, "incr", "sleeper")
        assert "stopping" in answer(place, "status", "slow") or "draining" in answer(place, "status", "slow")

        interrupt_twice(master)
        stopping.wait(20)


def test_curl_reads_and_changes_and_is_told_its_mistakes(place: Path) -> None:
    with controlled(place) as master:
        master.expect("slow.*is ready")
        status, index = curl(place, "/v1")

        assert status == 200
        assert isinstance(index, dict)
        assert index["pid"] == master.pid
        assert "reload" in index["verbs"]

        status, watchers = curl(place, "/v1/status?watcher=off")

        assert (status, watchers) == (200, watchers)
        assert curl(place, "/v1/restart", "-d", '{"watcher": "sleeper", "waiting": false}')[0] == 202
        assert curl(place, "/v1/stop")[0] == 405
        assert curl(place, "/v1/dance")[0] == 404
        assert curl(place, "/v2")[0] == 404
        assert curl(place, "/v1/incr", "-d", '{"watcher": "sleeper", "count": "x"}')[0] == 400
        assert curl(place, "/v1/incr", "-d", '{"watcher": "sleeper", "coutn": 1}')[0] == 400
        assert curl(place, "/v1/incr", "-d", "[1]")[0] == 400
        assert curl(place, "/v1/incr", "-d", "{")[0] == 400
        assert curl(place, "/v1/stop", "-d", '{"watcher": "nobody"}')[0] == 404
        assert curl(place, "/v1/list", "--request-target", "//[")[0] == 400

        interrupt_twice(master)


DEEP, WIDE = 30_000, 60_000
STRANGE = {
    "a list in a list": "[" * DEEP + "]" * DEEP,
    "an object in an object": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "a huge number": '{"watcher": "sleeper", "count": 1' + "0" * WIDE + "}",
    "a huge exponent": '{"watcher": "sleeper", "count": 1e999999999}',
    "a huge negative number": '{"watcher": "sleeper", "count": -1' + "0" * WIDE + "}",
    "a huge number as text": '{"watcher": "sleeper", "count": "1' + "0" * WIDE + '"}',
    "a huge key": '{"watcher": "sleeper", "' + "x" * WIDE + '": 1}',
    "half a pair": '{"watcher": "\\ud800", "count": 1}',
    "no text": b'{"watcher": "\xff"}'.decode("latin-1"),
    "no JSON": "NaN",
}


@pytest.mark.parametrize("verb", ["set", "signal"])
def test_strange_json_is_a_mistake_of_the_client_in_one_short_line(place: Path, verb: str) -> None:
    with controlled(place) as master:
        master.expect("slow.*is ready")
        for what, body in STRANGE.items():
            (place / "body").write_bytes(body.encode("latin-1"))
            status, answer = curl(place, f"/v1/{verb}", "--data-binary", f"@{place}/body")

            assert status == 400, (what, answer)
            assert len(str(answer)) < 1000
        assert curl(place, "/v1/list")[0] == 200
        interrupt_twice(master)


def test_control_can_be_left_out(place: Path) -> None:
    with running(
        "--control", "none", "--", "sleep", "1000", cwd=place, env={"XDG_RUNTIME_DIR": str(place / "run")}
    ) as it:
        it.expect("started")

        assert it.stop() == 0
    assert not list(place.rglob("*.sock"))


def test_events_tell_what_has_happened_and_what_happens(place: Path) -> None:
    with controlled(place) as master:
        master.expect_all(*(rf"{name} .* is ready" for name in (r"sleeper\[1\]", r"sleeper\[2\]", r"slow\[1\]")))
        past = [json.loads(line) for line in answer(place, "events", "--json").splitlines()]
        started = [event for event in past if event["kind"] == "process.started"]
        assert started and {"id", "time", "watcher", "wid", "pid", "generation", "text"} <= started[0].keys()
        name = "sleeper"
        assert answer(place, "events", "-n", "1").count("\n") == 1
        follower = subprocess.Popen(
            [sys.executable, "-m", "forkserve.cli.ctl", "-c", "stack.ini", "events", "-f", "-n", "1", "--json", name],
            cwd=place,
            env={"XDG_RUNTIME_DIR": str(place / "run"), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            text=True,
        )
        with follower:
            assert follower.stdout is not None
            first = json.loads(follower.stdout.readline())
            assert first["watcher"] == name
            answer(place, "incr", name)
            kinds = []
            for line in follower.stdout:
                kinds.append(json.loads(line)["kind"])
                if kinds[-1] == "process.ready":
                    break
            assert kinds[:2] == ["watcher.resized", "process.started"]
            follower.terminate()
        refused = ctl(place, "events", "nope")
        assert refused.returncode == 1 and "no watcher 'nope'" in refused.stderr
        interrupt_twice(master)


def test_events_are_server_sent_events_to_curl(place: Path) -> None:
    with controlled(place) as master:
        master.expect_all(r"sleeper\[1\] .* is ready", r"slow\[1\] .* is ready")
        (socket,) = place.glob("run/forkserve/*.sock")
        url = "http://localhost/v1/events?follow=false&last=2"
        outcome = subprocess.run(
            ["curl", "-sS", "-i", "--unix-socket", socket, url], capture_output=True, text=True, timeout=20, check=True
        )
        head, _, body = outcome.stdout.partition("\n\n")
        assert "content-type: text/event-stream" in head.lower()
        events = [block for block in body.strip().split("\n\n") if block]
        assert len(events) == 2 and all(block.startswith("id: ") and "\ndata: {" in block for block in events)
        interrupt_twice(master)
