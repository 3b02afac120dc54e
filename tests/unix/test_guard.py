"""The guardian ends what a killed master leaves, grandchildren included, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from forkserve.supervision.os.guard import Guard
from forkserve.supervision.os.proc import members_of
from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.fork_function import fork_companion
from tests.support.forkserving import eventually
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")

SCRIPT = """
import os, signal, sys
from forkserve.supervision.os.guard import Guard
from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.fork_function import fork_companion
from tests.support.spawning import spawn
guard = Guard(second_call=60 if sys.argv[1] == "killed" else 0.1)
signum = None if sys.argv[1] == "untold" else signal.SIGTERM
for command in sys.argv[2:]:
    reading, writing = os.pipe()
    argv = ("/bin/sh", "-c", command)
    pid = spawn(SpawnSpec(argv=argv, env={"PATH": "/usr/bin:/bin"}, fds={3: writing}, death_signal=signum))
    os.close(writing)
    assert os.read(reading, 1), "the command says when it has set its traps"
    guard.began(pid, signal.SIGTERM, float(os.environ.get("GRACE", "0.3")))
if sys.argv[1] != "orderly":
    os.kill(os.getpid(), signal.SIGKILL)
os.killpg(pid, signal.SIGKILL)
os.waitpid(pid, 0)
guard.ended(pid)
guard.close()
print(os.waitpid(guard.pid, 0)[1])
"""


def run(end: str, *commands: str, grace: float = 0.3) -> subprocess.CompletedProcess[str]:
    """Run a master with these children; the end of its output means that every one of them has gone."""
    command = [sys.executable, "-c", SCRIPT, end, *commands]
    environ = os.environ | {"GRACE": str(grace)}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=20, env=environ)


def send_home(guard: Guard) -> None:
    guard.close()
    assert os.waitpid(guard.pid, 0)[1] == 0


@pytest.mark.parametrize(
    "command",
    [
        "sleep 100 & sleep 100 & echo >&3; wait",
        "trap '' TERM; echo >&3; sleep 100; sleep 100",
        "echo >&3; kill -STOP $$; sleep 100",
        "set -m; sleep 100 & echo >&3; wait",
        "(trap '' TERM; echo >&3; sleep 100) & exit",
    ],
    ids=["grandchildren", "ignores TERM", "is stopped", "has groups of its own", "leader has gone"],
)
def test_nothing_outlives_a_killed_master(command: str) -> None:
    done = run("killed", command, "echo >&3; exec sleep 100")

    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""


def test_the_last_words_of_a_process_are_heard() -> None:
    assert run("killed", "trap 'echo bye; exit' TERM; echo >&3; sleep 100 & wait").stdout == "bye\n"


def test_the_folder_of_the_notify_sockets_goes_with_a_killed_master() -> None:
    script = """
import os, signal, sys
from forkserve.supervision.os.guard import Guard
from forkserve.unix.notifyfolder import NotifyFolder
folder = NotifyFolder(sys.argv[1:])
folder.open()
Guard(mark=f"NOTIFY_SOCKET={folder.prefix}")
print(folder.prefix, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # short enough for a socket
        command = [sys.executable, "-c", script, place]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=20)

        assert done.stdout.startswith(f"{place}/forkserve-notify-")
        eventually(lambda: not os.listdir(place))


def test_a_leader_hears_its_stop_signal_once_and_may_end_its_children_itself() -> None:
    script = "trap 'echo told; kill $!' TERM; sleep 100 & echo >&3; wait; wait"

    assert run("killed", script, grace=10).stdout == "told\n"


def test_a_leader_that_the_kernel_did_not_tell_is_told_by_the_guardian() -> None:
    assert run("untold", "trap 'echo told; exit' TERM; echo >&3; sleep 100 & wait", grace=10).stdout == "told\n"


def test_a_group_gets_no_more_than_its_grace() -> None:
    begun = time.monotonic()
    run("killed", "trap '' TERM; echo >&3; while :; do sleep 100; done")

    assert time.monotonic() - begun < 10


def test_the_guardian_goes_home_with_an_orderly_master() -> None:
    done = run("orderly", "echo >&3; exec sleep 100")

    assert done.returncode == 0
    assert done.stdout == "0\n"


def test_a_group_that_has_ended_is_not_touched_any_more() -> None:
    guard = Guard()
    pid = spawn(SpawnSpec(argv=("/bin/sleep", "100"), env={}))
    guard.began(pid, signal.SIGTERM, 0.0)
    guard.ended(pid)
    send_home(guard)
    alive = members_of({pid})
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert [each.pid for each in alive] == [pid]


def test_signals_meant_for_all_do_not_end_the_guardian() -> None:
    guard = Guard()
    pid = spawn(SpawnSpec(argv=("/bin/sleep", "100"), env={}))
    guard.began(pid, signal.SIGTERM, 5.0)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(guard.pid, signum)
    send_home(guard)

    assert os.waitpid(pid, 0)[1] == signal.SIGTERM


def test_the_guardian_holds_nothing_but_its_pipe() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        guard = Guard()
        pid = spawn(SpawnSpec(argv=("/bin/true",), env={}))
        os.waitpid(pid, 0)
        folder = f"/proc/{guard.pid}/fd"
        deadline = time.monotonic() + 10
        while len(held := os.listdir(folder)) != 4:
            assert time.monotonic() < deadline, held
        targets = sorted(os.readlink(f"{folder}/{fd}") for fd in held)
        send_home(guard)

    assert targets[:3] == [os.devnull] * 3
    assert targets[3].startswith("pipe:")


def test_a_guardian_begins_where_the_master_has_no_descriptor_left(capfd: pytest.CaptureFixture[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    reading, writing = os.pipe()
    resource.setrlimit(resource.RLIMIT_NOFILE, (reading, limits[1]))
    try:
        pid = fork_companion("nobody", lambda: None, standard={2: 2}, keep=reading)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    status = os.waitpid(pid, 0)[1]
    os.close(reading)
    os.close(writing)

    assert status == 0, capfd.readouterr().err


def test_a_guardian_that_is_stopped_does_not_stop_the_master_and_forgets_nothing() -> None:
    guard = Guard()
    os.kill(guard.pid, signal.SIGSTOP)
    pid = spawn(SpawnSpec(argv=("/bin/sleep", "100"), env={}))
    guard.began(pid, signal.SIGKILL, 5.0)
    for number in range(10000):
        guard.began(4_000_000 + number, signal.SIGTERM, 5.0)
        guard.ended(4_000_000 + number)
    os.kill(guard.pid, signal.SIGCONT)
    deadline = time.monotonic() + 10
    while not guard.flush():
        assert time.monotonic() < deadline
    send_home(guard)

    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_guardian_that_does_not_know_all_is_killed_rather_than_let_loose() -> None:
    guard = Guard()
    os.kill(guard.pid, signal.SIGSTOP)
    pid = spawn(SpawnSpec(argv=("/bin/sleep", "100"), env={}))
    for _ in range(5000):
        guard.began(pid, signal.SIGTERM, 5.0)
    guard.ended(pid)
    guard.close()
    end = os.waitpid(guard.pid, 0)[1]
    os.kill(pid, signal.SIGKILL)

    assert end == signal.SIGKILL
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
