"""Output is cut into whole lines and decorated as the options ask."""

from __future__ import annotations

import time

import pytest

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logwriter.lines import Decoration, LineSplitter


def test_a_line_is_passed_on_when_it_is_whole() -> None:
    splitter = LineSplitter()

    assert splitter.feed(b"one\ntw") == [b"one"]
    assert splitter.feed(b"o\n\nthree") == [b"two", b""]
    assert splitter.end() == [b"three"]
    assert splitter.end() == []


@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_line_longer_than_the_cap_comes_in_pieces(step: int) -> None:
    data = b"abcdefghij\nkl\n"
    splitter = LineSplitter(cap=4)
    lines = [line for start in range(0, len(data), step) for line in splitter.feed(data[start : start + step])]

    assert lines == [b"abcd", b"efgh", b"ij", b"kl"]


def test_bytes_that_are_no_text_are_left_as_they_are() -> None:
    assert LineSplitter().feed(b"\xff\x00\r\n") == [b"\xff\x00\r"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (StreamOptions(), b"hello\n"),
        (StreamOptions(prefix=True), b"web[3] | hello\n"),
        (StreamOptions(time_format="%Y"), b"2024 [411] | hello\n"),
        (StreamOptions(time_format="%Y", prefix=True), b"2024 [411] web[3] | hello\n"),
        (
            StreamOptions(kind=StreamClass.FANCY_STDOUT, time_format="%Y", color="green"),
            b"\033[32m2024 [411] | hello\033[0m\n",
        ),
    ],
)
def test_a_line_carries_what_the_options_ask_for(options: StreamOptions, line: bytes) -> None:
    now = time.mktime((2024, 6, 1, 0, 0, 0, 0, 0, -1))

    assert Decoration.of(options, "web[3]", 411).apply([b"hello"], now) == [line]


def test_a_fancy_stream_without_a_colour_has_that_of_its_watcher() -> None:
    options = StreamOptions(kind=StreamClass.FANCY_STDOUT)

    assert Decoration.of(options, "web[1]", 1).color == Decoration.of(options, "web[2]", 2).color is not None
