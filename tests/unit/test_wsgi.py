"""The parts of the WSGI interface that need no socket."""

from __future__ import annotations

import importlib
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest

from forkserve.serving.files import FileWrapper
from forkserve.serving.gateway.body import EMPTY, BodyBuffer, LazyInput


@pytest.mark.parametrize("pieces", [[b"abc"], [b"ab", b"c"], [b"abcdef"], [b"abc", b"def"], [b"a", b"bcdef", b"g"]])
def test_a_spool_gives_back_what_it_got_in_memory_or_not(pieces: list[bytes]) -> None:
    buffer = BodyBuffer(4)
    for piece in pieces:
        buffer.write(piece)
    body = buffer.open()
    assert isinstance(body, io.BytesIO) == (sum(map(len, pieces)) <= 4)
    assert body.read() == b"".join(pieces)
    buffer.close()


def test_an_empty_spool_is_the_empty_input() -> None:
    assert BodyBuffer(4).open() is EMPTY
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


FACE = [
    "close", "closed", "detach", "fileno", "flush", "isatty", "read", "read1", "readable", "readinto", "readinto1",
    "readline", "readlines", "seek", "seekable", "tell", "truncate", "writable", "write", "writelines", "__enter__",
    "__next__",
]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"one\ntwo\nthree"])
def test_each_input_has_the_face_of_a_binary_file(data: bytes) -> None:
    whole = io.BytesIO(data) if data else EMPTY
    for body in (whole, LazyInput(lambda: io.BytesIO(data) if data else EMPTY)):
        assert not [name for name in FACE if not hasattr(body, name)]
        assert body.readable() and body.seekable() and not body.closed and not body.isatty()
        assert body.tell() == 0
        room = bytearray(3)
        assert body.readinto(room) == len(data[:3]) and bytes(room[: len(data[:3])]) == data[:3]
        body.seek(0)
        assert body.read1(4) == data[:4]
        assert (body.seek(0), list(body)) == (0, data.splitlines(keepends=True))
        body.seek(0)
        assert next(body, b"") == (data.splitlines(keepends=True)[0] if data else b"")
        assert io.TextIOWrapper(body).read() == data[4:].decode()  # type: ignore[type-var]
        with pytest.raises(OSError):
            body.fileno()


def test_the_shared_input_is_never_closed() -> None:
    with EMPTY as body:
        assert body.read() == b""
    EMPTY.close()
    io.TextIOWrapper(EMPTY).close()
    assert not EMPTY.closed
    assert (EMPTY.read(), next(EMPTY, None), EMPTY.readinto(bytearray(2))) == (b"", None, 0)


class Upper(io.BufferedReader):
    """A file that reads something else than it stores."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).upper()


def packed(name: str, path: Path) -> Any:
    module = importlib.import_module(name)
    with module.open(path, "wb") as file:
        file.write(b"content")
    return module.open(path, "rb")


@pytest.mark.parametrize("name", ["bz2", "gzip", "lzma"])
@pytest.mark.parametrize("buffered", [False, True])
def test_what_a_compressing_reader_gives_is_sent(tmp_path: Path, name: str, buffered: bool) -> None:
    file = packed(name, tmp_path / "packed")
    with io.BufferedReader(file) if buffered else file as source:
        wrapper = FileWrapper(source)
        assert wrapper.part() is None
        assert b"".join(wrapper) == b"content"


def test_only_what_read_would_give_is_sent_without_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with Upper(io.FileIO(path)) as upper:
        assert FileWrapper(upper).part() is None
    with path.open("rb") as file:
        file.read = lambda size=-1, /: b""  # type: ignore[method-assign]
        assert FileWrapper(file).part() is None
    with path.open("ab") as file:
        assert FileWrapper(file).part() is None
    with path.open("rb") as file:
        file.seek(30)
        assert FileWrapper(file).part() == (30, 0)
        file.seek(2)
        assert file.peek(1) and file.read(1) == b"2"
        assert FileWrapper(file).part() == (3, 7)


@pytest.mark.parametrize("path", ["/proc/self/status", "/sys/devices/system/cpu/online", "/dev/null", "/dev/zero"])
def test_a_file_whose_size_says_nothing_is_read(path: str) -> None:
    with Path(path).open("rb") as file:
        assert FileWrapper(file).part() is None
