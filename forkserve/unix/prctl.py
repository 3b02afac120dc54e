"""Two calls of prctl(2) that the standard library does not offer. Linux only."""

from __future__ import annotations

import ctypes
import os

__all__ = ["become_subreaper", "set_death_signal"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_death_signal(signum: int) -> None:
    """Let the kernel send this process `signum` when its parent dies (PR_SET_PDEATHSIG).

    A change of credentials clears it, and so does executing a set-uid program: it comes last before exec.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper(*, wanted: bool = True) -> None:
    """Adopt every orphaned descendant (PR_SET_CHILD_SUBREAPER, Linux 3.4), so that it is reaped and found here.

    With `wanted` False, adopt no others from now on.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, wanted)
