"""Ends everything when the master is killed with SIGKILL.

PR_SET_PDEATHSIG reaches a child, but not its grandchildren, and no program that ignores the signal. So the guard, a
small process in a separate session, holds a pipe from the master, which announces each process group that begins and
ends. End of file means that the master is gone without a goodbye: the guard stops every group as the master would have,
leader first, and kills what is left after its grace. It holds no listening socket, so the ports are free at once.

A process may start at the very instant when the master dies, and a daemon may have left its group: both are recognised
by a variable in their environment that no other master's processes have, and end with the rest.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkserve.supervision.os.proc import Relation, members_of, relations
from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.fork_function import fork_companion
from forkserve.unix.notifyfolder import remove_left

__all__ = [
    "GOODBYE",
    "GRACE",
    "RECORD",
    "SECOND_CALL",
    "Guard",
    "GuardedGroup",
    "end_all",
    "end_groups",
    "marked",
    "note",
]

RECORD = struct.Struct("=iid")
"""Process group, stop signal (0: this group has ended), grace in seconds."""

GOODBYE = RECORD.pack(0, 0, 0.0)
"""The master ends in order, and has left nothing behind but what is on the list."""

GRACE = 10.0
"""Seconds for a process that was found by its mark, whose own grace nobody has told."""

SECOND_CALL = 1.0
"""Seconds after which a leader that is still alive is signalled again.

The kernel has signalled it once (PR_SET_PDEATHSIG), and some programs take a second signal as a demand for haste. But
one that has changed its user since, as gosu does, got none (prctl(2)).
"""


class Guard:
    """The master's end of the pipe; `pid` is the guard's, a child like any other, to be reaped at the end.

    `mark` is the beginning of a variable that only the environment of our processes has: `NOTIFY_SOCKET=`, and the
    beginning of their addresses (`NotifyFolder`). The guard removes that folder at the end, which the master can no
    longer do. An empty mark matches nothing.

    Raises OSError if it cannot be forked. If it dies, create another and announce every group again.
    """

    name = "guard"

    def __init__(self, *, mark: str = "", second_call: float = SECOND_CALL) -> None:
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self._unsent: deque[bytes] = deque()
        try:
            self.pid = fork_companion(
                "forkserve: guard", lambda: _guard(reading, mark, second_call), standard={}, keep=reading
            )
        except OSError:
            os.close(self._writing)
            raise
        finally:
            os.close(reading)
        os.set_blocking(self._writing, False)

    def to_data(self) -> dict[str, Any]:
        """Return the master's end as plain data: the guard outlives an exec of the master."""
        unsent = [list(RECORD.unpack(each)) for each in self._unsent]
        return {"pid": self.pid, "fd": descriptor(self._writing), "unsent": unsent}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Guard:
        """Return the master's end again, of the same guard."""
        guard = cls.__new__(cls)
        guard.pid, guard._writing = data["pid"], number_of(data["fd"])
        guard._unsent = deque(RECORD.pack(*each) for each in data["unsent"])
        return guard

    def began(self, pgid: int, stop_signal: int, grace: float) -> None:
        """Announce a group that must not outlive the master. `grace` is in seconds."""
        self._tell(pgid, stop_signal, grace)

    def ended(self, pgid: int) -> None:
        """Announce that a group has ended; its number may be reused for other processes."""
        self._tell(pgid, 0, 0.0)

    def _tell(self, pgid: int, stop_signal: int, grace: float) -> None:
        self._unsent.append(RECORD.pack(pgid, stop_signal, grace))
        with contextlib.suppress(BrokenPipeError):  # it has died; another is made when it is reaped
            self.flush()

    def flush(self) -> bool:
        """Send what a stopped guard could not receive; True when everything has been sent.

        Raises BrokenPipeError if it has died.
        """
        # Writes of less than PIPE_BUF are whole or not at all (pipe(7)).
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                os.write(self._writing, self._unsent[0])
                self._unsent.popleft()
        return not self._unsent

    def close(self) -> None:
        """Dismiss the guard: with no group left on its list it ends at once."""
        self._unsent.append(GOODBYE)
        with contextlib.suppress(BrokenPipeError):
            if not self.flush():  # it may hold a group that has ended for alive, and end strangers of that number
                os.kill(self.pid, signal.SIGKILL)
        os.close(self._writing)


@dataclass(slots=True)
class GuardedGroup:
    """A session and process group that is to end; `deadline` and `second_call` are instants."""

    pgid: int
    stop_signal: int
    grace: float
    deadline: float = 0.0
    second_call: float = 0.0
    leader_told: bool = False
    rest_told: bool = False

    def step(self, members: list[Relation], now: float) -> None:
        """Do what is due now. `members` are those alive."""
        leads = any(each.pid == self.pgid for each in members)
        if now >= self.deadline:
            _signal(-self.pgid, signal.SIGKILL)  # at one blow, so that none forks away
            for each in members:
                _signal(each.pid, signal.SIGKILL)
        elif not leads and not self.rest_told:
            self.rest_told = True
            for each in members:
                _signal(each.pid, self.stop_signal)
        elif leads and not self.leader_told and now >= self.second_call:
            self.leader_told = True
            _signal(self.pgid, self.stop_signal)

    def next_step(self, now: float) -> float:
        """Return the next instant at which something is due."""
        return self.deadline if self.leader_told or now >= self.second_call else min(self.second_call, self.deadline)


def _guard(reading: int, mark: str, second_call: float) -> None:
    """Keep the list until the master is gone, then clean up. Runs in the guard."""
    groups: dict[int, GuardedGroup] = {}
    while record := os.read(reading, RECORD.size):
        if record == GOODBYE:
            mark = ""
        else:
            note(groups, record)
    end_all(groups, mark, second_call)


def note(groups: dict[int, GuardedGroup], record: bytes) -> None:
    """Keep the list by what the master tells."""
    pgid, stop_signal, grace = RECORD.unpack(record)
    if stop_signal:
        groups[pgid] = GuardedGroup(pgid, stop_signal, grace)
    else:
        groups.pop(pgid, None)


def end_all(groups: dict[int, GuardedGroup], mark: str, second_call: float) -> None:
    """Stop the groups of a master that is gone, and what else has the mark; remove its folder."""
    longest = max((group.grace for group in groups.values()), default=GRACE)
    end_groups(_strays(mark, longest) | groups if mark else groups, second_call)
    remove_left(mark.partition("=")[2])


def _strays(mark: str, grace: float) -> dict[int, GuardedGroup]:
    """Return the sessions of all processes with the mark, as far as we may look."""
    return {each.session: GuardedGroup(each.session, signal.SIGTERM, grace) for each, _ in marked(mark)}


def marked(mark: str) -> list[tuple[Relation, str]]:
    """Return all processes with a variable that begins so, and that, as far as we may look (proc_pid_environ(5)).

    One that has written its title over its environment, as our workers do, is not found. Raises OSError when
    descriptors have run out.
    """
    found = []
    for each in relations():
        with contextlib.suppress(OSError):
            variables = Path("/proc", str(each.pid), "environ").read_bytes().split(b"\0")
            found += [(each, os.fsdecode(one)) for one in variables if one.startswith(mark.encode())][:1]
    return found


def end_groups(groups: dict[int, GuardedGroup], second_call: float) -> None:
    """Stop every group, each by its own signal and within its own grace."""
    begun = time.monotonic()
    for group in groups.values():
        group.deadline = begun + group.grace
        group.second_call = begun + second_call
        _signal(-group.pgid, signal.SIGCONT)  # one that was stopped could not act on its signal
    while members := _members(groups):
        now = time.monotonic()
        for pgid, group in groups.items():
            group.step([each for each in members if pgid in (each.group, each.session)], now)
        living = {each.group for each in members} | {each.session for each in members}
        groups = {pgid: group for pgid, group in groups.items() if pgid in living and now < group.deadline}
        if groups:
            _await_an_end(members, min(group.next_step(now) for group in groups.values()))


def _members(groups: Collection[int]) -> list[Relation]:
    """Return those alive. A single scan of /proc misses the child of a process that forks and ends meanwhile; two
    do not.
    """
    members = members_of(groups)
    found = {each.group for each in members} | {each.session for each in members}
    missing = [pgid for pgid in groups if pgid not in found]
    return members + members_of(missing) if missing else members


def _await_an_end(members: Iterable[Relation], deadline: float) -> None:
    """Return when one of the processes has ended, or at the deadline."""
    waiting = select.poll()
    pidfds = []
    try:
        for each in members:
            pidfds.append(os.pidfd_open(each.pid))
            waiting.register(pidfds[-1], select.POLLIN)
        waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
    except ProcessLookupError:
        pass
    except OSError:  # no pidfd_open(2) before Linux 5.3, or no descriptors: look again soon instead
        select.select((), (), (), min(0.05, max(0.0, deadline - time.monotonic())))
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
