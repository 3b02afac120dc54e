"""The pages of memory that a forked worker writes to before it serves, copied ahead in the next one.

Theory of operation. A fork shares all pages with its parent until one of them writes; then the kernel copies that page,
which takes longer than what Python does there. Two workers of one zygote write to the same pages on their way to
READY=1. So the first one records which pages are its own by then (proc_pid_pagemap(5)), in memory that all forks of the
zygote share, and in one that is forked ahead the kernel copies those (MADV_POPULATE_WRITE of madvise(2), since Linux
5.14) before it is needed. Addresses stay the same over a fork.

Rules: it saves time and nothing else. If the kernel does not tell, or cannot do it, nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from array import array
from collections.abc import Iterator

__all__ = ["WrittenPages"]

_POPULATE_WRITE = 23
_PAGE = mmap.PAGESIZE
_PRESENT, _FILE, _OWN = 1 << 63, 1 << 61, 1 << 56
"""Bits of an entry of /proc/PID/pagemap: in memory, of a file or shared, mapped by this process alone."""
_MOST = 1 << 16
"""Bytes that are shared: two numbers for each stretch of pages, and their count."""
_COUNT = struct.Struct("=q")
_UNKNOWN, _NOTHING = 0, -1


class WrittenPages:
    """The pages that the workers of one zygote write to; created by the zygote, and used by its forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _MOST)

    @property
    def is_known(self) -> bool:
        """Whether a worker has recorded its own pages, or that it cannot."""
        return self._count != _UNKNOWN

    @property
    def _count(self) -> int:
        count: int = _COUNT.unpack_from(self._shared)[0]
        return count

    def note(self) -> None:
        """Record this process's own pages, unless another one has; called by a worker that is ready."""
        if self.is_known:
            return
        numbers = array("Q")
        try:
            for first, count in _own_stretches():
                numbers.extend((first, count))
        except OSError:
            numbers = array("Q")
        data = numbers.tobytes()[: _MOST - _COUNT.size]
        self._shared[_COUNT.size : _COUNT.size + len(data)] = data
        _COUNT.pack_into(self._shared, 0, len(data) // 16 or _NOTHING)

    def write_ahead(self) -> None:
        """Copy each recorded page for this process."""
        count = self._count
        if count <= 0:
            return
        numbers = array("Q", self._shared[_COUNT.size : _COUNT.size + 16 * count])
        madvise = ctypes.CDLL(None).madvise
        for first, length in zip(numbers[::2], numbers[1::2], strict=True):
            # What is not mapped here is refused (ENOMEM), and an old kernel refuses all (EINVAL).
            madvise(ctypes.c_void_p(first * _PAGE), ctypes.c_size_t(length * _PAGE), _POPULATE_WRITE)

    def close(self) -> None:
        """Release the shared memory, in this process."""
        with contextlib.suppress(BufferError):
            self._shared.close()


def _own_stretches() -> Iterator[tuple[int, int]]:
    """Iterate over first pages and counts of what is in memory for this process alone; raises OSError."""
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for begin, end in _writable():
            first, length = begin // _PAGE, 0
            for number, entry in enumerate(array("Q", os.pread(pagemap, (end - begin) // _PAGE * 8, first * 8)), first):
                if entry & _PRESENT and entry & _OWN and not entry & _FILE:
                    length += 1
                elif length:
                    yield number - length, length
                    length = 0
            if length:
                yield end // _PAGE - length, length
    finally:
        os.close(pagemap)


def _writable() -> list[tuple[int, int]]:
    """Return where private memory that can be written to begins and ends (proc_pid_maps(5))."""
    with open("/proc/self/maps") as file:
        lines = [line.split(maxsplit=2) for line in file]
    ranges = (words[0].split("-") for words in lines if words[1] == "rw-p")
    return [(int(begin, 16), int(end, 16)) for begin, end in ranges]
