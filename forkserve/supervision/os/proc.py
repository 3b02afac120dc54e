"""Which processes there are, from /proc: our own children, and the members of a session, whatever their parent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Relation", "birth_of", "children_of", "members_of", "relations", "sharing"]

_DEAD = ("Z", "X")


@dataclass(frozen=True, slots=True)
class Relation:
    """One process, and its parent, group and session."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int

    @property
    def is_dead(self) -> bool:
        """A zombie, which only its parent can remove."""
        return self.state in _DEAD


def relations(wanted: Callable[[int], bool] = lambda _pid: True) -> list[Relation]:
    """Return all visible processes whose pid is `wanted`; empty where there is no /proc.

    Raises OSError if descriptors or memory have run out, so that no process is taken for dead.
    """
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and wanted(int(entry)):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended since
                    found.append(_parse(int(entry), Path("/proc", entry, "stat").read_bytes()))
    return found


def _parse(pid: int, stat: bytes) -> Relation:
    # proc_pid_stat(5): the name stands in parentheses, and may hold any byte, parentheses included
    before, _, after = stat.rpartition(b")")
    state, parent, group, session, *_ = after.split()
    name = before.partition(b"(")[2].decode(errors="replace")
    return Relation(pid, name, state.decode(), int(parent), int(group), int(session))


def birth_of(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None if it is gone.

    Together with it a pid identifies one process, although the kernel reuses numbers.
    """
    with contextlib.suppress(OSError):
        # proc_pid_stat(5), field 22; the name before it may hold any byte
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return None


def children_of(pid: int) -> list[Relation]:
    """Return the living children of a process; for a subreaper, the adopted ones too.

    Of the calling process, the kernel's own list is taken: it is cheap however many processes there are, and whole,
    since only the caller takes children off it, by reaping them. Raises OSError as `relations` does.
    """
    listed = _listed_children(pid) if pid == os.getpid() else None
    if listed is None:
        return [each for each in relations() if each.parent == pid and not each.is_dead]
    found = []
    for child in listed:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            found.append(_parse(child, Path("/proc", str(child), "stat").read_bytes()))
    return [each for each in found if not each.is_dead]


def _listed_children(pid: int) -> list[int] | None:
    """Return what the kernel lists as children of all threads (proc_tid_children(5)); None where it lists nothing."""
    listed: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            listed += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return None
    return listed


def members_of(sessions: Container[int]) -> list[Relation]:
    """Return the living processes of these sessions or process groups; each of our children leads one.

    Raises OSError as `relations` does.
    """
    found = relations(lambda pid: _may_be_member(pid, sessions))
    return [each for each in found if (each.session in sessions or each.group in sessions) and not each.is_dead]


def _may_be_member(pid: int, sessions: Container[int]) -> bool:
    # Most processes are strangers, and reading /proc/PID/stat takes ten times as long as these two system calls.
    try:
        return os.getpgid(pid) in sessions or os.getsid(pid) in sessions
    except ProcessLookupError:
        return False
    except PermissionError:  # a security module forbids to ask
        return True


def sharing(fds: Iterable[int]) -> list[Relation]:
    """Return the leaders of sessions, but ourselves, that have one of these files open, as far as we may look.

    The files are those that our descriptors lead to. Raises OSError when descriptors have run out.
    """
    wanted = {(found.st_dev, found.st_ino) for found in map(os.fstat, fds)}
    leaders = [each for each in relations() if each.pid == each.session != os.getpid()]
    return [each for each in leaders if not wanted.isdisjoint(_files_of(each.pid))]


def _files_of(pid: int) -> set[tuple[int, int]]:
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                about = os.stat(entry.path)
                found.add((about.st_dev, about.st_ino))
    return found
