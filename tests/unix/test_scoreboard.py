"""The scoreboard: its layout as documented, who may sit where, and what becomes of a record."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import select
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.config.handover import SCOREBOARD
from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.counters import PAGE, PageReading
from forkserve.unix.scoreboard import (
    CAPACITY,
    PAGES,
    RECORD,
    SIZE,
    Field,
    OwnRecord,
    RecordHandle,
    RecordState,
    Scoreboard,
    take_seat,
)
from tests.support.forkserving import descriptors
from tests.support.spawning import spawn


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    before = descriptors(os.getpid())
    board = Scoreboard()
    yield board
    board.close()
    assert descriptors(os.getpid()) == before


def taken(board: Scoreboard, generation: int = 1) -> RecordHandle:
    place = board.take(generation)
    assert place is not None
    return place


def record(board: Scoreboard, index: int) -> tuple[int, int, int, int, float, float]:
    """Read a record as the documentation has it."""
    return struct.unpack_from("=4q2d", os.pread(board.fd, 64, 64 + 64 * index))


@contextlib.contextmanager
def seated(board: Scoreboard, place: RecordHandle) -> Iterator[OwnRecord]:
    """Sit down, with descriptors of our own."""
    fd, bell = os.dup(board.fd), os.dup(board.bell)
    seat = take_seat({SCOREBOARD: place.variable(fd, bell)})
    assert seat is not None
    yield seat
    os.close(fd)
    os.close(bell)


def test_the_header_is_as_documented(board: Scoreboard) -> None:
    taken(board)
    taken(board)

    magic, *numbers = struct.unpack("=8s7q", os.pread(board.fd, 64, 0))

    assert magic == b"fksboard"
    assert numbers == [1, 64, 64, CAPACITY, 2, 64 + CAPACITY * 64, PAGES]
    assert PAGES >= 64 + CAPACITY * 64 + CAPACITY * 8
    assert os.fstat(board.fd).st_size == PAGES + CAPACITY * 8192


def test_a_record_is_written_by_the_master_then_by_the_process(board: Scoreboard) -> None:
    place = taken(board, generation=7)
    assert record(board, place.index) == (1, 7, 0, 0, 0.0, 0.0)

    with seated(board, place) as seat:
        seat.words[Field.STATE] = RecordState.ACCEPTING
        seat.words[Field.CONNECTIONS] = 3
        seat.reals[Field.TURN] = -1.5
        assert record(board, place.index) == (2, 7, os.getpid(), 3, -1.5, 0.0)

    place.release()
    assert record(board, place.index) == (0, 0, 0, 0, 0.0, 0.0)


def test_the_lowest_free_record_is_given_out_again(board: Scoreboard) -> None:
    places = [taken(board) for _ in range(4)]
    places[1].release()
    assert taken(board).index == 1

    places[3].release()
    places[2].release()
    assert struct.unpack("=q", os.pread(board.fd, 8, 40)) == (2,)


def test_who_finds_no_record_goes_without(board: Scoreboard) -> None:
    for _ in range(CAPACITY):
        taken(board)

    assert board.take(1) is None


def test_siblings_are_counted_and_seen(board: Scoreboard) -> None:
    first = taken(board)
    with seated(board, first) as seat:
        assert seat.refresh() == 0
        taken(board, generation=2)

        assert seat.refresh() == 1
        assert [each[:2] for each in seat.board()] == [(RecordState.STARTING, 1), (RecordState.STARTING, 2)]


def test_the_bell_wakes_everyone_once_for_each_ring(board: Scoreboard) -> None:
    place = taken(board)
    with contextlib.ExitStack() as stack:
        seat = stack.enter_context(seated(board, place))
        watchers = [stack.enter_context(select.epoll()) for _ in range(2)]
        for each in watchers:
            each.register(board.bell, select.EPOLLIN | select.EPOLLET)
            each.poll(0)
        seat.ring()

        assert [len(each.poll(5)) for each in watchers] == [1, 1]
        assert [len(each.poll(0)) for each in watchers] == [0, 0]


def test_no_process_can_shorten_the_memory_under_the_others(board: Scoreboard) -> None:
    taken(board)

    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 64)


def test_the_seat_is_taken_out_of_the_environment_and_kept_from_children(board: Scoreboard) -> None:
    place = taken(board)
    fd, bell = os.dup(board.fd), os.dup(board.bell)
    os.set_inheritable(fd, True)
    environ = {SCOREBOARD: place.variable(fd, bell), "OTHER": "1"}

    seat = take_seat(environ)

    assert seat is not None
    assert environ == {"OTHER": "1"}
    assert not os.get_inheritable(fd)
    assert seat.pass_on() == {SCOREBOARD: place.variable(fd, bell)}
    assert os.get_inheritable(fd)
    os.close(fd)
    os.close(bell)


def test_who_executes_itself_anew_sits_in_its_old_seat(board: Scoreboard) -> None:
    place = taken(board)
    with seated(board, place) as seat:
        seat.words[Field.STATE], seat.words[Field.CONNECTIONS] = RecordState.ACCEPTING, 5
    with seated(board, place):
        assert record(board, place.index) == (RecordState.STARTING, 1, os.getpid(), 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be FD:BELL:INDEX"),
        ("3:4", "must be FD:BELL:INDEX"),
        ("3:4:x", "must be FD:BELL:INDEX"),
        ("9999:{bell}:0", "Bad file descriptor"),
        ("-1:{bell}:0", "Bad file descriptor"),
        ("{pipe}:{bell}:0", "is no scoreboard"),
        ("{empty}:{bell}:0", "is no scoreboard"),
        ("{file}:{bell}:0", "is no scoreboard"),
        ("{fd}:{bell}:-1", "it has no record -1"),
        ("{fd}:{bell}:999999", "it has no record 999999"),
        ("{fd}:{bell}:1", "its record 1 is another process's"),
        ("{fd}:{bell}:2", "its record 2 is another process's"),
        ("{fd}:{pipe}:0", "is no eventfd"),
        ("{fd}:9999:0", "is no eventfd"),
        ("{newer}:{bell}:0", "its layout is version 2"),
    ],
)
def test_what_is_no_seat_costs_one_warning(
    board: Scoreboard, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    taken(board)
    other = taken(board)
    with mmap.mmap(board.fd, 0) as memory:
        memory[64 + 64 * other.index + 16 : 64 + 64 * other.index + 24] = struct.pack("=q", 1)
    newer = os.memfd_create("newer")
    os.write(newer, struct.pack("=8s5q", b"fksboard", 2, 64, 64, 1, 1) + bytes(80))
    (tmp_path / "file").write_bytes(b"x" * 200)
    (tmp_path / "empty").touch()
    opened = {name: os.open(tmp_path / name, os.O_RDWR) for name in ("file", "empty")}
    reading, writing = os.pipe()
    names = {**opened, "pipe": writing, "newer": newer, "fd": board.fd, "bell": board.bell}
    given = text.format(**names)

    with caplog.at_level(logging.WARNING):
        assert take_seat({SCOREBOARD: given}) is None

    for fd in (*opened.values(), reading, writing, newer):
        os.close(fd)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert message.startswith(f"{SCOREBOARD}={given} is ignored: ")
    assert reason in message


def test_a_program_of_another_kind_can_take_part(board: Scoreboard) -> None:
    place = taken(board)
    script = """
import mmap, os, struct
fd, bell, index = map(int, os.environ["FORKSERVE_SCOREBOARD"].split(":"))
memory = mmap.mmap(fd, 0)
at = 64 + 64 * index
struct.pack_into("=q", memory, at + 24, 11)
struct.pack_into("=q", memory, at, 2)
os.write(bell, struct.pack("=Q", 1))
"""
    pid = spawn(
        SpawnSpec(
            argv=(sys.executable, "-S", "-c", script),
            env={SCOREBOARD: place.variable(3, 4)},
            fds={3: board.fd, 4: board.bell},
        )
    )
    os.waitpid(pid, 0)

    assert record(board, place.index)[:4] == (RecordState.ACCEPTING, 1, 0, 11)


WORDS = [-(2**63), -(10**12), -1, 0, CAPACITY, CAPACITY + 1, 10**12, 2**63 - 1]


WRITTEN = 64 + CAPACITY * 64 + 8 * PAGE
"""Bytes of the memory that a test writes over: all records, and some pages of counters."""


def scribble(board: Scoreboard, value: int, *, first: int = 0, last: int = WRITTEN // 8) -> None:
    """Write one value over words of the memory, as a process that shares it can."""
    with mmap.mmap(board.fd, SIZE) as memory:
        memory[first * 8 : last * 8] = struct.pack("=q", value) * (last - first)


@pytest.mark.parametrize("value", WORDS)
def test_the_master_believes_nothing_in_the_memory(board: Scoreboard, value: int) -> None:
    places = [taken(board) for _ in range(3)]
    scribble(board, value)

    assert taken(board).index == 3
    places[1].release()
    assert record(board, 1) == (0, 0, 0, 0, 0.0, 0.0)
    assert taken(board, generation=5).index == 1
    assert record(board, 1) == (RecordState.STARTING, 5, 0, 0, 0.0, 0.0)
    assert struct.unpack("=q", os.pread(board.fd, 8, 40)) == (4,)


@pytest.mark.parametrize("value", WORDS)
def test_a_header_that_was_written_over_is_whole_for_the_next_process(board: Scoreboard, value: int) -> None:
    taken(board)
    scribble(board, value)

    with seated(board, taken(board)) as seat:
        assert seat.page is not None
        assert seat.refresh() >= 0


@pytest.mark.parametrize("value", WORDS)
def test_a_worker_maps_no_counters_where_the_header_lies(board: Scoreboard, value: int) -> None:
    for word in (7,):
        place = taken(board)
        with mmap.mmap(board.fd, SIZE) as memory:
            before = memory[word * 8 : word * 8 + 8]
            memory[word * 8 : word * 8 + 8] = struct.pack("=q", value)
            seat = take_seat({SCOREBOARD: place.variable(board.fd, board.bell)})
            memory[word * 8 : word * 8 + 8] = before
        assert seat is None or seat.page is None


@pytest.mark.parametrize("value", WORDS)
def test_counters_of_any_content_are_read_and_cleared_with_the_record(board: Scoreboard, value: int) -> None:
    place = taken(board)
    scribble(board, value)

    page = board.page(place.index)
    assert page.begun >= 0 <= page.beat
    place.release()
    assert board.page(place.index) == PageReading()


@pytest.mark.parametrize("value", WORDS)
def test_a_worker_sees_its_own_record_whatever_the_header_says(board: Scoreboard, value: int) -> None:
    taken(board)
    with seated(board, taken(board)) as seat:
        scribble(board, value, first=5, last=6)

        assert seat.refresh() in (1, 0)
        assert 2 <= len(list(seat.board())) <= CAPACITY
        scribble(board, value, first=8, last=8 + RECORD * CAPACITY)
        assert seat.refresh() >= 0


def test_a_bell_that_was_filled_and_made_to_block_rings_on(board: Scoreboard) -> None:
    taken(board)
    with select.epoll() as watcher:
        watcher.register(board.bell, select.EPOLLIN | select.EPOLLET)
        os.eventfd_write(board.bell, 2**64 - 3)
        os.set_blocking(board.bell, True)
        watcher.poll(0)
        board.ring()

        assert len(watcher.poll(5)) == 1
