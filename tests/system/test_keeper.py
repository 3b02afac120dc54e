"""A master is killed and its processes serve on, until another takes them over, or somebody ends them."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from forkserve.control.client import ControlClient
from forkserve.supervision.os.proc import children_of, relations
from tests.support.forkserving import Forkserve, eventually, running
from tests.support.load import Load
from tests.support.stacks import DOG, WRITER, put_app, put_dog, put_writer, web

CONFIG = f"""
[circus]
on_master_death = serve
pidfile = master.pid
{web("PORT")}{WRITER}ready_after = 0.1
"""
READY = (r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready", r"writer\[1\] pid \d+ started")
TAKEN = r"took over from the master that was killed, pid \d+: (\d+) process"


OTHER_STATE = """
import sys
from forkserve.bootstrap import statefile
from forkserve.cli.master import main
statefile.VERSION = 99
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    put_app(tmp_path)
    put_writer(tmp_path)
    yield tmp_path
    for each in relations():  # what a test that failed has left is nobody's child
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{each.pid}/cwd") == str(tmp_path):
                os.kill(each.pid, signal.SIGKILL)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Ends the last master first, and all processes with it: the others wait for that."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def master(place: Path, config: str, port: int, *, launcher: tuple[str, ...] = ()) -> AbstractContextManager[Forkserve]:
    """Run a master; one that is killed leaves its stderr to what serves on, so its end is that of all of them."""
    config = config.replace("PORT", str(port))
    where = {"XDG_RUNTIME_DIR": str(place)}
    return running("--control", str(place / "ctl.sock"), cwd=place, config=config, env=where, launcher=launcher)


def kill(server: Forkserve) -> None:
    server.send(signal.SIGKILL)
    assert server.process.wait(20) == -signal.SIGKILL


def asked(port: int) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def is_bound(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def processes(place: Path) -> dict[int, bool]:
    """Return which processes there are by pid, and whether another master has started each."""
    with ControlClient(place / "ctl.sock", timeout=20) as client:
        answer = client.call("status")
    assert isinstance(answer, list)
    return {each["pid"]: each.get("adopted", False) for watcher in answer for each in watcher["processes"]}


def call(place: Path, verb: str, **parameters: object) -> Any:
    with ControlClient(place / "ctl.sock", timeout=40) as client:
        return client.call(verb, **parameters)


def forkserve(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run another forkserve with the same configuration, and wait for its end."""
    command = [sys.executable, "-m", "forkserve", "-c", "stack.ini", *words]
    where = {**os.environ, "XDG_RUNTIME_DIR": str(place)}
    return subprocess.run(command, cwd=place, env=where, capture_output=True, text=True, timeout=20)


def keeper_of(server: Forkserve) -> int:
    return next(
        each.pid for each in children_of(server.pid) if b"keeper" in Path(f"/proc/{each.pid}/cmdline").read_bytes()
    )


def test_a_killed_master_is_succeeded_under_load_and_nothing_is_lost(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    before = processes(place)
    with Load(("127.0.0.1", port), pause=0.002) as load:
        for _ in range(2):
            kill(server)
            load.more(50)
            server = stack.enter_context(master(place, CONFIG, port))
            assert server.expect(TAKEN)[1] == "3"
            assert processes(place) == dict.fromkeys(before, True)
            load.more(50)
        call(place, "reload")
        eventually(lambda: sorted(processes(place).values()) == [False] * 3)
        load.more(50)
    assert (load.lost, load.refused) == ([], 0)
    assert int((place / "master.pid").read_text()) == server.pid
    assert server.stop() == 0
    numbers = [int(line) for line in (place / "writer.log").read_text().split()]
    again = numbers.index(0, 1)
    assert numbers == [*range(again), *range(len(numbers) - again)], "a line was lost, or came twice"


def test_a_process_that_dies_without_a_master_is_replaced_by_the_next(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    kill(server)
    dead = server.rewound().started("web[1]")
    os.kill(dead, signal.SIGKILL)
    successor = stack.enter_context(master(place, CONFIG, port))
    successor.expect(r"took over .*: 2 processes, 1 have ended meanwhile")
    successor.expect_all(rf"web\[1\] pid {dead} ended", READY[0])
    living = successor.rewound().expect(r"web\[1\] pid (\d+) is ready")[1]
    os.kill(server.rewound().started("web[2]"), signal.SIGKILL)
    successor.expect(r"web\[2\] pid \d+ ended")
    successor.expect(READY[1])
    assert not processes(place)[int(living)]


def test_a_second_start_is_refused_while_the_first_runs(place: Path, port: int, stack: contextlib.ExitStack) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    done = forkserve(place)
    assert done.returncode == 69
    assert done.stderr == f"forkserve: error: another forkserve runs this configuration: pid {server.pid} runs it\n"
    assert asked(port) == b"hello"


def test_of_two_that_start_at_once_one_takes_over(place: Path, port: int, stack: contextlib.ExitStack) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    kill(server)
    words = [sys.executable, "-m", "forkserve", "-c", "stack.ini", "--control", str(place / "ctl.sock")]
    where = {**os.environ, "XDG_RUNTIME_DIR": str(place)}
    pair = [
        stack.enter_context(subprocess.Popen(words, cwd=place, env=where, stderr=subprocess.PIPE, text=True))
        for _ in range(2)
    ]
    eventually(lambda: any(each.poll() is not None for each in pair))
    loser, winner = sorted(pair, key=lambda each: each.poll() is None)
    assert loser.wait(20) == 69
    assert loser.stderr is not None and f"pid {winner.pid} runs it" in loser.stderr.read()
    assert winner.stderr is not None
    assert any("took over from the master that was killed" in line for line in winner.stderr)
    assert asked(port) == b"hello"
    winner.terminate()
    winner.stderr.read()
    assert winner.wait(20) == 0


def test_a_configuration_that_serves_on_no_more_takes_over_and_ends_with_its_master(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    kill(server)
    successor = stack.enter_context(master(place, CONFIG.replace("serve", "stop", 1), port))
    assert successor.expect(TAKEN)[1] == "3"
    assert asked(port) == b"hello"
    eventually(lambda: not list(place.glob("**/*.keeper")))
    kill(successor)
    successor.wait()
    server.wait()
    assert not is_bound(port)


@pytest.mark.parametrize("how", ["TERM", "--end-orphans"])
def test_the_keeper_ends_everything_when_it_is_told_to(
    place: Path, port: int, stack: contextlib.ExitStack, how: str
) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    keeper = keeper_of(server)
    kill(server)
    server.expect("keeper: the master, pid .* is gone")
    assert asked(port) == b"hello"
    if how == "TERM":
        os.kill(keeper, signal.SIGTERM)
    else:
        done = forkserve(place, how)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"what the killed master, pid {server.pid}, has left has ended\n"
        assert forkserve(place, how).stdout == "a killed master has left nothing\n"
    server.wait()
    assert not is_bound(port)
    assert not list(place.glob("**/*.keeper"))


def test_a_state_that_cannot_be_read_is_told_and_all_of_it_ends_first(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    (place / "other.py").write_text(OTHER_STATE)
    words = [sys.executable, "other.py", "-c", "stack.ini", "--control", "none"]
    (place / "stack.ini").write_text(CONFIG.replace("PORT", str(port)))
    where = {**os.environ, "XDG_RUNTIME_DIR": str(place)}
    with subprocess.Popen(words, cwd=place, env=where, stderr=subprocess.PIPE, text=True) as other:
        assert other.stderr is not None
        lines = iter(other.stderr.readline, "")
        wanted = {"web[1]", "web[2]", "writer[1]"}
        while wanted:
            line = next(lines)
            wanted -= {each for each in wanted if f"{each} pid" in line and ("is ready" in line or "writer" in line)}
        other.kill()
        other.wait()
        server = stack.enter_context(master(place, CONFIG, port))
        server.allow("what cannot be taken over")
        server.expect(r"pid \d+, which was killed, has left what cannot be taken over: .* version 99")
        server.expect_all(*READY)
        assert asked(port) == b"hello"
        assert "told to end" not in (rest := other.stderr.read()) and "drained, ending" in rest


def test_what_has_changed_in_the_configuration_meanwhile_is_replaced(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    server = stack.enter_context(master(place, CONFIG, port))
    server.expect_all(*READY)
    before = processes(place)
    kill(server)
    with Load(("127.0.0.1", port), pause=0.002) as load:
        changed = CONFIG.replace("app:app", "app:app --timeout 31")
        server = stack.enter_context(master(place, changed, port))
        server.expect(TAKEN)
        server.expect("web: 2 processes replaced")
        load.more(20)
    eventually(lambda: sorted(processes(place).values()) == [False, False, True])
    after = processes(place)
    assert {pid for pid, adopted in after.items() if adopted} < before.keys()
    assert (load.lost, load.refused) == ([], 0)


def test_a_master_that_is_killed_while_it_stops_takes_everything_along(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    command = "trap '' TERM; echo trapped >&2; while :; do sleep 100; done"
    slow = f'[watcher:slow]\ncmd = /bin/sh -c "{command}"\ngraceful_timeout = 1\n'
    server = stack.enter_context(master(place, CONFIG + slow, port))
    server.expect_all(*READY, "^trapped")
    server.send(signal.SIGTERM)
    server.expect("stopping 1 process")
    kill(server)
    server.wait()
    assert not is_bound(port)


def test_a_value_that_is_none_is_refused_in_one_line(place: Path) -> None:
    words = [sys.executable, "-m", "forkserve", "--on-master-death", "sleep", "app:app"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stderr.count("\n") <= 2
    assert "--on-master-death" in done.stderr and "stop" in done.stderr and "serve" in done.stderr


PRELOADED = f"""
[circus]
on_master_death = serve
{web("PORT", own=True, more="preload = True")}{DOG}"""
SPEAKS_ALONE = """
alone = os.path.exists("killed") and (alone if number else 0) + 1
if alone == 100:
    tell("STATUS=said more than a queue holds")
if alone == 150:
    open("dog.said", "w").close()
"""
"""What the dog says once the test has killed the master."""


def test_forked_workers_are_taken_over_and_what_processes_say_meanwhile_is_heard(
    place: Path, port: int, stack: contextlib.ExitStack
) -> None:
    put_dog(place, SPEAKS_ALONE, pause=0.01)
    server = stack.enter_context(master(place, PRELOADED, port))
    server.expect_all(*READY[:2], r"dog\[1\] pid \d+ is ready")
    # what was forked in the last moment is not in the state that the keeper has, which a busy machine writes rarely
    eventually(lambda: all(each["uptime"] > 1.5 for watcher in call(place, "status") for each in watcher["processes"]))
    before = set(processes(place))
    zygote = server.rewound().started("web zygote")
    kill(server)
    (place / "killed").touch()
    eventually(lambda: not os.path.exists(f"/proc/{zygote}") or b"Z" in Path(f"/proc/{zygote}/stat").read_bytes())
    eventually((place / "dog.said").exists)
    server = stack.enter_context(master(place, PRELOADED, port))
    server.expect(TAKEN)
    eventually(lambda: "said more than a queue holds" in str(call(place, "status")))
    assert processes(place) == dict.fromkeys(before - {zygote}, True)
    with Load(("127.0.0.1", port), pause=0.002) as load:
        call(place, "reload", watcher="web")
        eventually(lambda: sorted(processes(place).values()) == [False, False, False, True])
    assert (load.lost, load.refused) == ([], 0)
    call(place, "upgrade")
    dog = next(pid for pid, adopted in processes(place).items() if adopted)
    os.kill(dog, signal.SIGKILL)
    server.expect(rf"dog\[1\] pid {dog} ended")
    server.expect(r"dog\[1\] pid \d+ is ready")
