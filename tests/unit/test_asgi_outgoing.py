"""What an application says, judged and framed, without a connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkserve.serving.asgi.files import file_part
from forkserve.serving.asgi.outgoing import body_bytes, early_hints, prepared_head, trailer_fields
from forkserve.serving.http.response import BadResponse, Framing, Responder, ResponseStart
from forkserve.serving.stream import Stream

RESPONDER = Responder(0.0, "s")


def stream(framing: Framing, length: int | None = None) -> Stream:
    return Stream(ResponseStart(b"", framing, length, True))


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({}, "has no status"),
        ({"status": 99}, "not a number from 100"),
        ({"status": 200, "headers": [(b"a",)]}, "not pairs of bytes"),
        ({"status": 200, "headers": [("a", "b")]}, "not pairs of bytes"),
        ({"status": 200, "headers": [(b"a b", b"c")]}, "not a token"),
        ({"status": 200, "headers": [(b"a", b"b\r\nc: d")]}, "control character"),
        ({"status": 103}, "server's to send"),
    ],
)
def test_a_head_that_cannot_be_sent_is_refused_with_its_reason(message: dict[str, Any], fault: str) -> None:
    for _ in range(3):
        with pytest.raises(BadResponse, match=fault):
            prepared_head(RESPONDER, {"type": "http.response.start", **message})


def test_headers_may_be_any_iterable_of_pairs_of_bytes() -> None:
    for headers in ([(b"a", b"b")], ((b"a", b"b"),), iter([[b"a", bytearray(b"b")]])):
        prepared = prepared_head(RESPONDER, {"type": "http.response.start", "status": 200, "headers": headers})
        assert b"a: b\r\n" in prepared.head


@pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
def test_a_body_may_be_anything_like_bytes(data: Any) -> None:
    assert body_bytes(data) == b"x"


@pytest.mark.parametrize("data", ["x", None, 5, [b"x"]])
def test_a_body_is_never_anything_else(data: Any) -> None:
    with pytest.raises(BadResponse, match="consists of bytes"):
        body_bytes(data)


def test_hints_and_trailers_are_judged_as_fields_are() -> None:
    assert early_hints(RESPONDER, {"links": [b"</a>"]}) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    with pytest.raises(BadResponse):
        early_hints(RESPONDER, {"links": [b"</a>\r\nx: y"]})
    headers = [(b"x-sum", b"1"), (b"Content-Length", b"3"), (b"transfer-encoding", b"chunked")]
    assert trailer_fields(RESPONDER, {"headers": headers}) == b"x-sum: 1\r\n"


def test_a_part_of_a_file_never_goes_beyond_its_end(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    whole = file_part({"type": "http.response.pathsend", "path": str(path)})
    assert (whole.offset, whole.count) == (0, 10)
    whole.close()
    with path.open("rb") as file:
        file.seek(4)
        rest = file_part({"type": "http.response.zerocopysend", "file": file})
        assert (rest.offset, rest.count) == (4, 6)
        over = file_part({"type": "http.response.zerocopysend", "file": file, "offset": 8, "count": 100})
        assert (over.offset, over.count) == (8, 2)


def test_each_framing_marks_pieces_and_end_in_its_way() -> None:
    chunked = stream(Framing.CHUNKED)
    chunked.trail(b"x: y\r\n")
    assert (chunked.piece(b"ab"), chunked.piece(b""), chunked.end()) == (b"2\r\nab\r\n", b"", b"0\r\nx: y\r\n\r\n")
    length = stream(Framing.LENGTH, 3)
    assert (length.piece(b"ab"), length.missing, length.piece(b"cd"), length.missing) == (b"ab", 1, b"c", 0)
    assert length.end() == b""
    assert length.size == 3
    none = stream(Framing.NONE)
    assert (none.piece(b"ab"), none.file(5), none.missing, none.size) == (b"", (b"", 0, b""), 0, 0)
    assert stream(Framing.CHUNKED).file(16) == (b"10\r\n", 16, b"\r\n")
    assert stream(Framing.LENGTH, 4).file(16) == (b"", 4, b"")
