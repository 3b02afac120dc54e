"""What one process asks of Unix about itself and others: descriptors, credentials, relations, adoption."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from forkserve.errors import ConfigError
from forkserve.supervision.os.proc import children_of, members_of
from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.privileges import Credentials, resolve
from tests.support.descriptors import open_fds
from tests.support.spawning import spawn

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.usefixtures("nothing_left")


def in_a_child(script: str, **more: object) -> str:
    """Run Python code in a process of its own and return what it prints."""
    reading, writing = os.pipe()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    spec = {"argv": (sys.executable, "-c", script), "env": env, "stdout": writing, **more}
    pid = spawn(SpawnSpec(**spec))  # type: ignore[arg-type]
    os.close(writing)
    with open(reading) as file:
        text = file.read().strip()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def test_open_descriptors_are_counted_without_the_one_that_counts() -> None:
    before = open_fds()
    reading, writing = os.pipe()
    during = open_fds()
    os.close(reading)
    os.close(writing)

    assert set(during) - set(before) == {reading, writing}


def test_all_other_descriptors_are_closed() -> None:
    script = """
import os
from forkserve.unix.fds import close_all_but
from tests.support.descriptors import open_fds
for _ in range(20): os.open("/dev/null", 0)
os.dup2(1, 500)
close_all_but([1, 7, 500])
print(open_fds())
"""
    assert in_a_child(script) == "(1, 7, 500)"


def test_descriptors_can_change_places() -> None:
    script = """
import os
from forkserve.unix.fds import arrange
from tests.support.descriptors import open_fds
a, b = os.pipe(), os.pipe()
os.write(a[1], b"a"); os.write(b[1], b"b")
kept = arrange({1: 1, a[0]: b[0], b[0]: a[0]}, keep=2)
print(os.read(a[0], 1), os.read(b[0], 1), open_fds() == (1, a[0], b[0], kept), os.get_inheritable(kept))
"""
    assert in_a_child(script) == "b'b' b'a' True False"


def test_missing_standard_descriptors_are_opened() -> None:
    script = """
import os
from forkserve.unix.fds import ensure_standard
from tests.support.descriptors import open_fds
os.close(0); os.close(2)
ensure_standard()
print(open_fds(), os.get_inheritable(0), os.get_inheritable(2))
"""
    assert in_a_child(script) == "(0, 1, 2) True True"


@pytest.mark.parametrize(
    ("user", "group", "expected"),
    [
        (None, None, None),
        (None, "4", Credentials(None, 4, None)),
        ("12345", None, Credentials(12345, 12345, ())),
        ("12345", "0", Credentials(12345, 0, ())),
        ("nobody", None, Credentials(65534, 65534, (65534,))),
        ("65534", "root", Credentials(65534, 0, (0,))),
    ],
)
def test_users_and_groups_go_by_name_or_number(user: str | None, group: str | None, expected: Credentials) -> None:
    assert resolve(user, group) == expected


@pytest.mark.parametrize(
    ("user", "group", "words"),
    [
        ("no-such-user", None, "unknown user 'no-such-user'"),
        (None, "no-such-group", "unknown group 'no-such-group'"),
        ("99999999999", None, "no user has the number 99999999999"),
    ],
)
def test_unknown_users_and_groups_are_named(user: str | None, group: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve(user, group)


def test_children_and_members_of_a_session_are_found() -> None:
    reading, writing = os.pipe()
    script = "sleep 100 & sleep 100 & echo; wait"
    pid = spawn(SpawnSpec(argv=("/bin/sh", "-c", script), env={"PATH": "/usr/bin:/bin"}, stdout=writing))
    os.close(writing)
    os.read(reading, 1)
    mine = [each.pid for each in children_of(os.getpid())]
    members = members_of({pid})
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert os.read(reading, 1) == b""
    os.close(reading)

    assert mine == [pid]
    assert {each.session for each in members} == {each.group for each in members} == {pid}
    # One that was forked last may not have become `sleep` yet.
    assert len(members) == 3
    assert {each.name for each in members} <= {"sh", "sleep"}
    assert children_of(pid) == []


def test_a_subreaper_adopts_and_reaps_the_orphans_of_its_children() -> None:
    script = """
import os, select, signal
from forkserve.unix.prctl import become_subreaper
from forkserve.supervision.os.reap import reap
from forkserve.supervision.os.signals import SignalQueue
become_subreaper()
queue = SignalQueue([signal.SIGCHLD])
if os.fork() == 0:
    if os.fork() == 0:
        while os.getppid() != int(os.environ["MASTER"]): select.select((), (), (), 0.001)
        os._exit(7)
    os._exit(3)
found = []
while len(found) < 2:
    select.select([queue], [], [])
    queue.take()
    found += [each.code for each in reap(10)]
print(found)
"""
    script = "import os; os.environ['MASTER'] = str(os.getpid())\n" + script

    assert in_a_child(script) == "[3, 7]"
