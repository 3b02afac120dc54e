"""The parts of the WSGI interface that need no socket."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import pytest

from forkserve.serving.files import FileWrapper
from forkserve.serving.gateway.body import EMPTY, LazyInput, Spool


@pytest.mark.parametrize("pieces", [[b"abc"], [b"ab", b"c"], [b"abcdef"], [b"abc", b"def"], [b"a", b"bcdef", b"g"]])
def test_a_spool_gives_back_what_it_got_in_memory_or_not(pieces: list[bytes]) -> None:
    spool = Spool(4)
    for piece in pieces:
        spool.write(piece)
    body = spool.open()
    assert isinstance(body, io.BytesIO) == (sum(map(len, pieces)) <= 4)
    assert body.read() == b"".join(pieces)
    spool.close()


def test_an_empty_spool_is_the_empty_input() -> None:
    assert Spool(4).open() is EMPTY
    assert (EMPTY.read(), EMPTY.readline(5), EMPTY.readlines(), list(EMPTY)) == (b"", b"", [], [])


def test_a_lazy_input_fetches_once_and_at_the_first_read() -> None:
    calls = []

    def fetch() -> io.BytesIO:
        calls.append(1)
        return io.BytesIO(b"one\ntwo\nthree")

    body = LazyInput(fetch)
    assert calls == []
    assert (body.read(2), body.readline(), next(iter(body)), body.readlines()) == (b"on", b"e\n", b"two\n", [b"three"])
    assert calls == [1]
    body.close()


@pytest.mark.parametrize("make", [lambda path: open(path, "rb"), lambda path: open(path, "r+b")])  # noqa: SIM115
def test_a_plain_file_can_be_sent_from_where_it_stands(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    with make(path) as file:
        file.seek(4)
        assert FileWrapper(file).part() == (4, 6)


def test_what_is_no_plain_file_is_read() -> None:
    with tempfile.TemporaryFile("w+") as text:
        assert FileWrapper(text).part() is None
    assert FileWrapper(io.BytesIO(b"x")).part() is None
    assert b"".join(FileWrapper(io.BytesIO(b"abcde"), 2)) == b"abcde"
