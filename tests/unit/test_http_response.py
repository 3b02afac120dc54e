"""Response heads: judged, framed, remembered."""

from __future__ import annotations

import pytest

from forkserve.serving.http.dates import date_text
from forkserve.serving.http.errors import page
from forkserve.serving.http.response import BadResponse, Framing, Responder, ResponseStart
from forkserve.serving.stream import Stream

NOW = 784111777.0
TAIL = b"Server: s\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"


@pytest.fixture
def responder() -> Responder:
    return Responder(NOW, "s")


def test_date_is_an_imf_fixdate() -> None:
    assert date_text(NOW) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_date_changes_with_the_second_only(responder: Responder) -> None:
    before = responder.date
    responder.tick(NOW + 0.9)
    assert responder.date is before
    responder.tick(NOW + 1)
    assert responder.date == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"


def test_whole_response_with_a_length_is_one_piece(responder: Responder) -> None:
    for _ in range(3):
        prepared = responder.prepare("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        data, keep = responder.whole(prepared, b"hi", method="GET", modern=True, keep=True)
        assert data == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n" + TAIL + b"hi"
        assert keep
    assert prepared is responder.prepare("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])


def test_whole_response_gets_its_length(responder: Responder) -> None:
    data, keep = responder.whole(responder.prepare("200 OK", []), b"hi", method="GET", modern=True, keep=True)
    assert (data, keep) == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + TAIL + b"hi", True)


@pytest.mark.parametrize(
    ("length", "sent", "stays"), [("3", b"hel", True), ("9", b"hello", False), ("0", b"", True), ("5", b"hello", True)]
)
def test_body_longer_than_its_length_is_cut_and_a_shorter_one_closes(
    responder: Responder, length: str, sent: bytes, stays: bool
) -> None:
    prepared = responder.prepare("200 OK", [("Content-Length", length)])
    data, keep = responder.whole(prepared, b"hello", method="GET", modern=True, keep=True)
    assert data.partition(b"\r\n\r\n")[2] == sent
    assert keep is stays


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_bodiless_statuses_have_no_body(responder: Responder, status: str, method: str) -> None:
    data, _ = responder.whole(responder.prepare(status, []), b"body", method=method, modern=True, keep=True)
    assert data.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in data
    assert b"Transfer-Encoding" not in data


@pytest.mark.parametrize("headers", [[], [("Content-Length", "4")]])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_205_has_a_length_of_zero(responder: Responder, method: str, headers: list[tuple[str, str]]) -> None:
    prepared = responder.prepare("205 Reset Content", headers)
    data, keep = responder.whole(prepared, b"body", method=method, modern=True, keep=True)
    assert (data, keep) == (b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n" + TAIL, True)
    start = responder.start(prepared, method="GET", modern=True, keep=True)
    assert (start.framing, start.length) == (Framing.LENGTH, 0)


def test_headers_that_can_be_gone_through_only_once_are_refused(responder: Responder) -> None:
    with pytest.raises(BadResponse, match="list"):
        responder.prepare("200 OK", iter([("X-A", "b")]))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "103 Early Hints"])
def test_interim_statuses_are_the_servers(responder: Responder, status: str) -> None:
    for _ in range(3):
        with pytest.raises(BadResponse, match="interim"):
            responder.prepare(status, [])
    with pytest.raises(BadResponse, match="interim"):
        responder.prepare_raw(int(status[:3]), [])


def test_content_length_stays_on_304_and_goes_on_204(responder: Responder) -> None:
    assert b"Content-Length: 5" in responder.prepare("304 Not Modified", [("Content-Length", "5")]).head
    assert b"Content-Length" not in responder.prepare("204 No Content", [("Content-Length", "5")]).head


def test_head_says_what_get_would_and_sends_nothing(responder: Responder) -> None:
    prepared = responder.prepare("200 OK", [("Content-Length", "5")])
    start = responder.start(prepared, method="HEAD", modern=True, keep=True)
    assert start.framing is Framing.NONE
    assert b"Content-Length: 5\r\n" in start.head
    assert start.keep_alive


@pytest.mark.parametrize(
    ("modern", "framing", "line", "keep"),
    [
        (True, Framing.CHUNKED, b"Transfer-Encoding: chunked\r\n", True),
        (False, Framing.CLOSE, b"Connection: close\r\n", False),
    ],
)
def test_unknown_length_is_chunked_or_closes(
    responder: Responder, modern: bool, framing: Framing, line: bytes, keep: bool
) -> None:
    start = responder.start(responder.prepare("200 OK", []), method="GET", modern=modern, keep=True)
    assert (start.framing, start.keep_alive) == (framing, keep)
    assert line in start.head


def test_old_client_that_keeps_alive_is_told(responder: Responder) -> None:
    start = responder.start(responder.prepare("200 OK", []), method="GET", modern=False, keep=True, length=3)
    assert b"Connection: keep-alive\r\nServer" in start.head


def test_hop_by_hop_fields_are_dropped_and_close_is_obeyed(responder: Responder) -> None:
    headers = [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("TE", "x"), ("X", "y")]
    start = responder.start(responder.prepare("200 OK", headers), method="GET", modern=True, keep=True, length=1)
    assert not start.keep_alive
    assert start.head == b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 1\r\nConnection: close\r\n" + TAIL


def test_date_and_server_of_the_application_stand(responder: Responder) -> None:
    prepared = responder.prepare("200 OK", [("Date", "d"), ("Server", "mine")])
    data, _ = responder.whole(prepared, b"", method="GET", modern=True, keep=True)
    assert data == b"HTTP/1.1 200 OK\r\nDate: d\r\nServer: mine\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\r\nX: y", "\x1b", "\x7f", "\x0b", "\u2028", "ā"])
def test_nothing_is_injected_through_a_value(responder: Responder, bad: str) -> None:
    with pytest.raises(BadResponse, match="header"):
        responder.prepare("200 OK", [("X", f"a{bad}b")])


@pytest.mark.parametrize("bad", ["", " X", "X ", "X:", "X\r\n", "X\0", "Ä", "X(", "X Y"])
def test_nothing_is_injected_through_a_name(responder: Responder, bad: str) -> None:
    with pytest.raises(BadResponse, match="header"):
        responder.prepare("200 OK", [(bad, "v")])


@pytest.mark.parametrize(
    "bad",
    ["", "OK", "20 OK", "2000 OK", "200OK", "200 a\r\nX: y", "200 a\nb", "200 \0", "099 x", "٢٠٠ OK", "200 ā", 200],
)
def test_nothing_is_injected_through_the_status(responder: Responder, bad: str) -> None:
    with pytest.raises(BadResponse, match="status"):
        responder.prepare(bad, [])


@pytest.mark.parametrize("bad", ["+5", "-1", "5, 5", "x", "", "1_0", "0x5", "9" * 20])
def test_content_length_of_the_application_is_a_number(responder: Responder, bad: str) -> None:
    with pytest.raises(BadResponse, match="Content-Length"):
        responder.prepare("200 OK", [("Content-Length", bad)])


def test_two_content_lengths_are_refused(responder: Responder) -> None:
    with pytest.raises(BadResponse, match="two Content-Length"):
        responder.prepare("200 OK", [("Content-Length", "1"), ("content-length", "1")])


@pytest.mark.parametrize("headers", [None, 5, [("a",)], [("a", 1)], [(b"a", b"b")], [["a", "b"]], [("a", ["b"])], "ab"])
def test_headers_of_a_wrong_shape_are_refused(responder: Responder, headers: object) -> None:
    with pytest.raises(BadResponse):
        responder.prepare("200 OK", headers)  # type: ignore[arg-type]


def test_asgi_headers_take_the_same_way(responder: Responder) -> None:
    prepared = responder.prepare_raw(404, [(b"content-length", b"1"), (b"x", b"\xff")])
    assert prepared.head == b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\nx: \xff\r\n"
    assert responder.prepare_raw(299, []).head == b"HTTP/1.1 299 \r\n"
    with pytest.raises(BadResponse):
        responder.prepare_raw(99, [])
    with pytest.raises(BadResponse):
        responder.prepare_raw(200, [(b"x", b"a\nb")])


def test_memory_of_heads_is_bounded(responder: Responder) -> None:
    for number in range(2000):
        for _ in range(2):
            responder.prepare("200 OK", [("X", str(number))])
    assert len(responder.known) <= 256


def test_chunks_are_encoded() -> None:
    stream = Stream(ResponseStart(b"", Framing.CHUNKED, None, True))
    assert stream.piece(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
    assert stream.piece(b"") == b""
    assert (stream.end(), stream.size, stream.missing) == (b"0\r\n\r\n", 16, 0)


def test_no_more_than_the_length_goes_out() -> None:
    stream = Stream(ResponseStart(b"", Framing.LENGTH, 5, True))
    assert (stream.piece(b"abc"), stream.missing) == (b"abc", 2)
    assert (stream.piece(b"def"), stream.missing, stream.size) == (b"de", 0, 5)
    assert stream.file(9) == (b"", 0, b"")
    assert stream.end() == b""
    silent = Stream(ResponseStart(b"", Framing.NONE, None, True))
    assert (silent.bodiless, silent.piece(b"abc"), silent.file(3), silent.size) == (True, b"", (b"", 0, b""), 0)


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 421, 431, 500, 501, 503, 505, 599])
def test_error_pages_are_short_and_plain(status: int) -> None:
    line, headers, body = page(status)
    assert line.startswith(str(status))
    assert dict(headers)["Content-Length"] == str(len(body))
    assert len(body) < 60
