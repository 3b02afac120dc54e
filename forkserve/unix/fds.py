"""File descriptors of this process: which go where, and closing the rest.

Rules: everything here acts on the calling process alone. Numbers are all there is; nothing is owned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = [
    "arrange",
    "close_all_but",
    "ensure_standard",
    "given_limits",
    "lower_limit",
    "raise_limit",
    "restore_given_limits",
]

_given: list[tuple[int, int]] = []
"""The limits before `raise_limit`."""


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def raise_limit() -> None:
    """Allow this process as many descriptors as possible: the master needs up to three for each of its processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(
            OSError, ValueError
        ):  # a hard limit beyond the kernel's own, after a change of nr_open
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _given.append((soft, hard))


def given_limits() -> list[list[int]]:
    """Return the limits before `raise_limit`, as plain data: an exec of this process keeps the raised ones."""
    return [list(each) for each in _given]


def restore_given_limits(data: Iterable[Sequence[int]]) -> None:
    """Restore the limits that another program in this process has found."""
    _given[:] = [(soft, hard) for soft, hard in data]


def lower_limit() -> None:
    """Give this process, a child, the limits that the master was started with: select(2) ends at 1024."""
    if _given:
        soft, hard = _given[0]
        now = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if now == hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def close_all_but(kept: Collection[int]) -> None:
    """Close every descriptor whose number is not in `kept`."""
    # Up to the highest that is open: SC_OPEN_MAX may be below it, or so high that a kernel without close_range(2),
    # before 5.9, would count for minutes.
    end = max((*_listed(), *kept)) + 1
    start = 0
    for number in (*sorted(kept), end):
        if start < number:
            os.closerange(start, number)
        start = number + 1


def _listed() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return [os.sysconf("SC_OPEN_MAX")]


def arrange(wanted: Mapping[int, int], *, keep: int) -> int:
    """Put each descriptor of `wanted` (target to source) at its target, inheritable, and close all others.

    `keep` stays open too, not inheritable; its new number is returned. Runs in a child before exec.
    All are first copied above the targets, so that no target overwrites a source that is still to be moved.
    """
    place = max(wanted, default=-1) + 1
    copies = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, place + 1) for target, source in wanted.items()}
    kept = fcntl.fcntl(keep, fcntl.F_DUPFD_CLOEXEC, place + 1)
    for target, source in copies.items():
        os.dup2(source, target, inheritable=True)
    os.dup2(kept, place, inheritable=False)
    close_all_but({*wanted, place})
    return place


def ensure_standard() -> None:
    """Open /dev/null at each of 0, 1, 2 that is closed, so that no socket gets such a number and is printed to."""
    for fd in (0, 1, 2):
        if not _is_open(fd):
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)
