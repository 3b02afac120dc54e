"""The scoreboard: a page of shared memory in which the processes of one watcher see how busy the others are.

Theory of operation. The master creates one board for each watcher that has sockets, and gives each process the memory
(a memfd), a bell (an eventfd that is never read: each write wakes, once, all that watch it edge-triggered) and the
number of a record. A record has one writer: the master while it has no process, then that process until the master has
reaped it. Beside each record is an order, which the master alone writes and its process reads: whether to accept. All
fields are eight aligned bytes, which x86-64 and ARMv8 load and store whole, so there are no locks. A process that does
not take part leaves its record as the master created it, `STARTING`, and is ignored.

After the records each of them has a page of counters (`counters`), which the process writes and the master reads.

The layout is documented in docs/scoreboard.md, for programs in any language. Memory is sparse: a page without a record
in use costs nothing.

Every process that has the memory can write all of it, and may be broken or hostile. So supervision depends on nothing
in it: the master keeps to itself which records are taken, and checks what it reads, as `supervision.figures` says. A
worker reads numbers that may be anything, and checks each before it computes with it, by the size of the memory here,
by plausibility in `serving.engine.fairness`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import stat
import struct
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from enum import IntEnum

from forkserve.config.handover import OWN_QUEUES, SCOREBOARD
from forkserve.unix.counters import PAGE, PageReading, read_page

__all__ = [
    "CAPACITY",
    "RECORD",
    "Field",
    "Order",
    "OwnRecord",
    "RecordHandle",
    "RecordState",
    "Scoreboard",
    "take_seat",
]

log = logging.getLogger("forkserve.scoreboard")

MAGIC = int.from_bytes(b"fksboard", "little")
VERSION = 1
HEADER = RECORD = 8
"""Words of eight bytes: the header is as long as a record, which is one cache line of the processor."""
CAPACITY = 4095
"""Records of a board: with the header 256 KiB of address space; further processes share without seeing each other."""
ORDERS = HEADER + CAPACITY * RECORD
"""Offset of the orders, in words: after the last record."""
MAPPED = (ORDERS + CAPACITY) * 8
"""Bytes that all processes map; the pages of counters begin at the next multiple of their size."""
PAGES = -(-MAPPED // PAGE) * PAGE
SIZE = PAGES + CAPACITY * PAGE
_SEEN = struct.Struct("=qqqqdd16x")
_MAGIC, _VERSION, _HEADER_SIZE, _RECORD_SIZE, _CAPACITY, _IN_USE, _ORDERS, _PAGES = range(8)


class RecordState(IntEnum):
    """The state of a process for its siblings; only ACCEPTING counts."""

    VACANT = 0
    STARTING = 1
    ACCEPTING = 2
    PAUSED = 3
    """It cannot accept for now, since descriptors or memory have run out."""
    DRAINING = 4


class Order(IntEnum):
    """What the master wants of a process besides its signals; any other number means ACCEPT.

    They are not small numbers, since a broken program often writes small ones over the board.
    """

    ACCEPT = 0
    HOLD = int.from_bytes(b"fks hold", "little")
    """Accept no more, answer requests in flight, and stay."""
    FINISH = int.from_bytes(b"fks last", "little")
    """When told to stop, first take what waits in the queues: no other process will."""


class Field(IntEnum):
    """The layout of a record. TURN and FULL are doubles, instants of the monotonic clock in seconds; others int64."""

    STATE = 0
    GENERATION = 1
    PID = 2
    CONNECTIONS = 3
    TURN = 4
    """When the current turn of the loop began; while the loop waits, the negative start of the last turn."""
    FULL = 5
    """Since when all its threads are busy; 0 while one is free, and without threads."""


class Scoreboard:
    """The board of one watcher, in the master; it takes memory and descriptors when the first record is taken."""

    def __init__(self) -> None:
        self.fd = self.bell = -1
        self._words = memoryview(b"").cast("q")
        self._taken: set[int] = set()

    def _open(self) -> None:
        fd = os.memfd_create("forkserve-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, SIZE)
            # Else a process that shortens it would kill its siblings: SIGBUS (mmap(2)).
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            words = memoryview(mmap.mmap(fd, MAPPED)).cast("q")
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            os.close(fd)
            raise
        self.fd, self.bell, self._words = fd, bell, words

    @classmethod
    def restore(cls, fd: int, bell: int, taken: Iterable[int]) -> Scoreboard:
        """Return the board again that another one held by these descriptors; raises OSError."""
        board = cls()
        if bell >= 0:
            board._words = memoryview(mmap.mmap(fd, MAPPED)).cast("q")
            board.fd, board.bell, board._taken = fd, bell, set(taken)
        return board

    @property
    def taken(self) -> frozenset[int]:
        """The indexes of the records that are in use."""
        return frozenset(self._taken)

    def place(self, index: int) -> RecordHandle:
        """Return a record that is taken."""
        return RecordHandle(self, index)

    def take(self, generation: int) -> RecordHandle | None:
        """Return a record for a new process, or None if all are taken; raises OSError if no board can be created."""
        if self.bell < 0:
            self._open()
        if len(self._taken) >= CAPACITY:
            return None
        index = next(number for number in range(CAPACITY) if number not in self._taken)
        self._taken.add(index)
        base = HEADER + index * RECORD
        self._wipe(index)
        self._words[base + Field.GENERATION] = generation
        # Whole each time: where a process had written over it, all that come later would find no board.
        in_use = max(self._taken) + 1
        for place, value in enumerate((MAGIC, VERSION, HEADER * 8, RECORD * 8, CAPACITY, in_use, ORDERS * 8, PAGES)):
            self._words[place] = value
        # The state comes last: it is what makes the others look at the record.
        self._words[base + Field.STATE] = RecordState.STARTING
        self.ring()
        return RecordHandle(self, index)

    def order(self, index: int, wanted: Order) -> None:
        """Write an order for the process of a record, which reads it when the bell rings, and at its stop signal."""
        self._words[ORDERS + index] = wanted

    def takes_part(self, index: int) -> bool:
        """Tell whether the process of a record has reported that it accepts, or no longer does."""
        state = self._words[HEADER + index * RECORD + Field.STATE]
        return state in (RecordState.ACCEPTING, RecordState.PAUSED, RecordState.DRAINING)

    def clear(self, index: int) -> None:
        """Clear a record, and let the others check: what its process was woken for may wait in the queue."""
        self._taken.discard(index)
        self._wipe(index)
        self._words[_IN_USE] = max(self._taken, default=-1) + 1
        self.ring()

    def _wipe(self, index: int) -> None:
        base = HEADER + index * RECORD
        for place in (*range(base, base + RECORD), ORDERS + index):
            self._words[place] = 0
        os.pwrite(self.fd, bytes(PAGE), PAGES + index * PAGE)

    def record(self, index: int) -> tuple[int, int, int, int, float, float]:
        """Return state, generation, pid, connections, turn and full of a record, as its process has written them."""
        return _SEEN.unpack_from(self._words.cast("B"), (HEADER + index * RECORD) * 8)

    def page(self, index: int) -> PageReading:
        """Return the counters of a record that is taken."""
        return read_page(os.pread(self.fd, PAGE, PAGES + index * PAGE))

    def ring(self) -> None:
        """Wake all processes."""
        _ring(self.bell)

    def close(self) -> None:
        """Close it; processes keep theirs."""
        self._words.release()
        for fd in (self.fd, self.bell):
            if fd >= 0:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class RecordHandle:
    """The record of one process, as the master sees it."""

    board: Scoreboard
    index: int

    def variable(self, memory: int, bell: int) -> str:
        """Return the variable for the environment of the process, given the numbers of the two descriptors there."""
        return f"{memory}:{bell}:{self.index}"

    def order(self, wanted: Order) -> None:
        """Write an order for its process."""
        self.board.order(self.index, wanted)

    def release(self) -> None:
        """Return it; its process has been reaped, or was not started."""
        self.board.clear(self.index)


class OwnRecord:
    """The record of this process, and sight of the others. Runs in the worker; the record is cleared by the master.

    `words` and `reals` are this process's own record as int64 and as doubles, to be indexed by `Field`.
    """

    def __init__(self, fd: int, bell: int, index: int) -> None:
        """Claim the record; raises ValueError or OSError with the reason if this is not a board, or not ours."""
        self.fd, self.bell, self.index = fd, bell, index
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size < HEADER * 8 or status.st_size % 8:
            raise ValueError(f"descriptor {fd} is no scoreboard")
        (pages,) = struct.unpack_from("=q", os.pread(fd, HEADER * 8, 0), _PAGES * 8)
        has_pages = pages >= MAPPED and not pages % 8 and 0 <= index < (status.st_size - pages) // PAGE
        self._memory = mmap.mmap(fd, pages if has_pages else 0)
        self._words = words = memoryview(self._memory).cast("q")
        if words[_MAGIC] != MAGIC:
            raise ValueError(f"descriptor {fd} is no scoreboard")
        if (words[_VERSION], words[_HEADER_SIZE], words[_RECORD_SIZE]) != (VERSION, HEADER * 8, RECORD * 8):
            raise ValueError(f"its layout is version {words[_VERSION]}, and this is a program for version {VERSION}")
        self._records = min(words[_CAPACITY], len(words) // RECORD - 1)
        if not 0 <= index < self._records:
            raise ValueError(f"it has no record {index}")
        base = HEADER + index * RECORD
        self.words = words[base : base + RECORD]
        self.reals = memoryview(self._memory).cast("d")[base : base + RECORD]
        if self.words[Field.STATE] == RecordState.VACANT or self.words[Field.PID] not in (0, os.getpid()):
            raise ValueError(f"its record {index} is another process's")
        if not _is_eventfd(bell):
            raise ValueError(f"descriptor {bell} is no eventfd")
        self._order = words[_ORDERS] // 8 + index if HEADER * 8 <= words[_ORDERS] < len(words) * 8 else len(words)
        self.reads_alone = False
        """Whether siblings read from other queues, so that nothing can be left to them."""
        self.page: memoryview | None = None
        """This process's own counters; None if the board has none."""
        if has_pages:
            self.page = _map(fd, pages + index * PAGE, PAGE)
        self.words[Field.PID] = os.getpid()
        self.words[Field.STATE] = RecordState.STARTING
        self.words[Field.CONNECTIONS] = 0
        self.reals[Field.TURN] = self.reals[Field.FULL] = 0.0
        self.refresh()

    @property
    def descriptors(self) -> tuple[int, int]:
        """The memory and the bell."""
        return self.fd, self.bell

    @property
    def order(self) -> int:
        """The order of the master: an `Order`, or what another process has written over it."""
        return self._words[self._order] if self._order < len(self._words) else Order.ACCEPT

    def refresh(self) -> int:
        """Update `board` to the records in use; returns how many of them are taken by others.

        Our own is always among them, whatever the header says.
        """
        in_use = min(max(self._words[_IN_USE], self.index + 1), self._records)
        self._board = memoryview(self._memory)[HEADER * 8 : (HEADER + in_use * RECORD) * 8]
        return sum(record[0] != RecordState.VACANT and place != self.index for place, record in enumerate(self.board()))

    def board(self) -> Iterator[tuple[int, int, int, int, float, float]]:
        """Iterate over the records in use: state, generation, pid, connections, turn, full."""
        return _SEEN.iter_unpack(self._board)

    def ring(self) -> None:
        """Wake all siblings, and this process too."""
        _ring(self.bell)

    def pass_on(self) -> dict[str, str]:
        """Keep it through exec, and return the environment for that."""
        os.set_inheritable(self.fd, True)
        os.set_inheritable(self.bell, True)
        own = {OWN_QUEUES: "1"} if self.reads_alone else {}
        return {SCOREBOARD: f"{self.fd}:{self.bell}:{self.index}", **own}


def _map(fd: int, at: int, size: int) -> memoryview:
    """Map a part of a file; its offset need not be a multiple of the machine's page size."""
    more = at % mmap.ALLOCATIONGRANULARITY
    return memoryview(mmap.mmap(fd, more + size, offset=at - more))[more : more + size]


def take_seat(environ: MutableMapping[str, str]) -> OwnRecord | None:
    """Remove the variable of the scoreboard from the environment, and return the seat; None without one.

    An invalid one is only a warning: a worker serves without a board as well.
    """
    text, reads_alone = environ.pop(SCOREBOARD, None), environ.pop(OWN_QUEUES, "") == "1"
    if text is None:
        return None
    try:
        fd, bell, index = (int(part) for part in text.split(":"))
    except ValueError:
        log.warning("%s=%s is ignored: it must be FD:BELL:INDEX", SCOREBOARD, text)
        return None
    try:
        seat = OwnRecord(fd, bell, index)
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        log.warning("%s=%s is ignored: %s", SCOREBOARD, text, reason)
        return None
    os.set_inheritable(fd, False)
    os.set_inheritable(bell, False)
    seat.reads_alone = reads_alone
    return seat


def _ring(bell: int) -> None:
    # O_NONBLOCK belongs to the open file, and any process that shares it may have cleared it; the counter may be full.
    os.set_blocking(bell, False)
    try:
        os.eventfd_write(bell, 1)
    except BlockingIOError:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(bell)
            os.eventfd_write(bell, 1)


def _is_eventfd(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]"
    except OSError:
        return False
