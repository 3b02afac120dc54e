"""HTTP as a client sees it: framing, persistence, pipelining, streams, and clients that break off."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator

from forkserve.testing.application import BIG
from forkserve.testing.client import Failed, Fault, Response, expect
from forkserve.testing.outcome import Check
from forkserve.testing.worker import WorkerUnderTest

__all__ = ["exchanges"]

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = b"0,1,2,3,4,"
_PREFIX = "check_"


def exchanges() -> Iterator[Check]:
    """Yield every check of this module; its docstring is its name."""
    for name, function in globals().items():
        if name.startswith(_PREFIX):
            yield Check(function.__doc__.rstrip("."), function)


def check_head(worker: WorkerUnderTest) -> None:
    """The answer to HEAD has the length of GET and no body."""
    with worker.connect() as connection:
        connection.send(b"HEAD /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = connection.response("HEAD")
        expect(answer.field("content-length") == str(BIG), f"Content-Length {answer.field('content-length')}")
        expect(connection.rest() == b"", "a body came")


def check_kept(worker: WorkerUnderTest) -> None:
    """A connection is kept for the next request."""
    with worker.connect() as connection:
        for _ in range(3):
            connection.send(GET % b"/")
            expect(connection.response().status == 200, "not served")


def check_close(worker: WorkerUnderTest) -> None:
    """Connection: close is honoured."""
    with worker.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        connection.response()
        expect(connection.closed(), "kept open")


def check_old_client(worker: WorkerUnderTest) -> None:
    """HTTP/1.0 gets no chunks and a close."""
    with worker.connect() as connection:
        connection.send(b"GET /stream HTTP/1.0\r\n\r\n")
        answer = connection.response()
        expect(answer.field("transfer-encoding") is None, "a transfer coding")
        expect(answer.body == STREAM, f"got {answer.body!r}")


def check_pipelined_gets(worker: WorkerUnderTest) -> None:
    """Pipelined requests are answered one by one, in order."""
    with worker.connect(patience=5) as connection:
        connection.send(b"".join(GET % (b"/%d" % number) for number in range(5)))
        for number in range(5):
            expect(json.loads(connection.response().body)["path"] == f"/{number}", "out of order")


def check_pipelined_posts(worker: WorkerUnderTest) -> None:
    """Pipelined bodies go to their own requests."""
    bodies = [b"GET /evil HTTP/1.1\r\n\r\n", b"", b"x" * 70_000]
    with worker.connect(patience=5) as connection:
        for body in bodies:
            connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        for body in bodies:
            expect(json.loads(connection.response().body)["body"].encode() == body, "another body")


def check_chunked(worker: WorkerUnderTest) -> None:
    """A chunked body arrives whole, its trailers do no harm, and the connection goes on."""
    with worker.connect(patience=5) as connection:
        head = b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        pieces = [random.Random(size).randbytes(size) for size in (1, 10, 1000, 70_000)]
        connection.send(head + b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
        connection.send(b"0\r\nX-Trailer: t\r\n\r\n" + GET % b"/next")
        _expect_digest(connection.response(), b"".join(pieces))
        expect(json.loads(connection.response().body)["path"] == "/next", "the next request is lost")


def check_bytewise(worker: WorkerUnderTest) -> None:
    """A request that comes byte by byte is the same request."""
    with worker.connect(patience=5) as connection:
        for byte in b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz":
            connection.send(bytes([byte]))
        seen = json.loads(connection.response().body)
        expect((seen["path"], seen["query"], seen["body"]) == ("/a", "b=c", "xyz"), f"got {seen}")


def check_continue(worker: WorkerUnderTest) -> None:
    """Expect: 100-continue is answered before the body is sent."""
    with worker.connect(patience=5) as connection:
        connection.send(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        expect(connection.interim() == 100, "another interim status")
        connection.send(b"hello")
        _expect_digest(connection.response(), b"hello")


def check_stream(worker: WorkerUnderTest) -> None:
    """A response without a length comes in chunks, and the connection goes on."""
    with worker.connect() as connection:
        for _ in range(2):
            connection.send(GET % b"/stream")
            answer = connection.response()
            expect(answer.field("transfer-encoding") == "chunked", "not chunked")
            expect(answer.body == STREAM, f"got {answer.body!r}")


def check_empty(worker: WorkerUnderTest) -> None:
    """204 has no body, no length and no coding, and the connection goes on."""
    _bodiless(worker, b"/empty", 204)


def check_unmodified(worker: WorkerUnderTest) -> None:
    """304 has no body, and the connection goes on."""
    _bodiless(worker, b"/unmodified", 304)


def _bodiless(worker: WorkerUnderTest, path: bytes, status: int) -> None:
    with worker.connect(patience=5) as connection:
        connection.send(GET % path)
        answer = connection.response()
        expect(answer.status == status, f"status {answer.status}")
        expect(answer.field("transfer-encoding") is None, "a transfer coding")
        expect(status == 304 or answer.field("content-length") is None, "a Content-Length")
        if answer.field("connection") != "close":
            connection.send(GET % b"/next")
            expect(connection.response().status == 200, "the next request is lost")


def check_slow_reader(worker: WorkerUnderTest) -> None:
    """A client with a small window gets a large response whole."""
    with worker.connect(receive_buffer=4096) as connection:
        connection.send(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        expect(len(connection.response().body) == BIG, "cut off")


def check_upload(worker: WorkerUnderTest) -> None:
    """Eight megabytes arrive whole."""
    body = random.Random(1).randbytes(1 << 20) * 8
    _expect_digest(worker.ask("/digest", method="POST", body=body), body)


def check_broken_length(worker: WorkerUnderTest) -> None:
    """A body that breaks off before its length is no whole one to the application."""
    _broken(worker, b"Content-Length: 1000\r\n\r\n" + b"x" * 500)


def check_broken_chunk(worker: WorkerUnderTest) -> None:
    """A body that breaks off between chunks is no whole one to the application."""
    _broken(worker, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


def _broken(worker: WorkerUnderTest, rest: bytes) -> None:
    before = json.loads(worker.ask("/counted").body)["whole"]
    with worker.connect(patience=5) as connection:
        connection.send(b"POST /digest HTTP/1.1\r\nHost: a\r\n" + rest)
        connection.half_close()
        connection.rest()
    if json.loads(worker.ask("/counted").body)["whole"] != before:
        raise Failed("the application took a part for the whole", Fault.TRUNCATION)


def check_raise(worker: WorkerUnderTest) -> None:
    """An exception becomes a 500 that tells nothing of the inside, and serving goes on."""
    answer = worker.ask("/raise")
    expect(answer.status == 500, f"status {answer.status}")
    expect(b"secret" not in answer.body and b"Traceback" not in answer.body, "tells of the inside")
    expect(worker.ask("/").status == 200, "serves no more")


def check_leaver(worker: WorkerUnderTest) -> None:
    """Clients that leave within a response do no harm."""
    for _ in range(5):
        with worker.connect(receive_buffer=4096) as connection:
            connection.send(GET % b"/big")
            connection.exactly(100)
    expect(worker.ask("/").status == 200, "serves no more")


def check_fields(worker: WorkerUnderTest) -> None:
    """Fields that come twice are joined, and a name with an underscore is not taken for one with a hyphen."""
    seen = worker.facts(fields="X-Two: 1\r\nX-Two: 2\r\nX_User: root\r\n")["fields"]
    # ASGI hands every line on; only WSGI has to join them.
    expect(seen["x-two"].replace(" ", "") == "1,2" or worker.interface.value == "asgi", f"got {seen['x-two']!r}")
    expect(seen.get("x-user") is None, "X_User became X-User")


def check_target(worker: WorkerUnderTest) -> None:
    """The path is decoded, the query is not."""
    seen = worker.facts("/a%20b%2Fc?d=%20&e")
    expect((seen["path"], seen["query"]) == ("/a b/c", "d=%20&e"), f"got {seen['path']!r} {seen['query']!r}")


def check_date(worker: WorkerUnderTest) -> None:
    """Responses are dated."""
    expect(worker.ask("/").field("date"), "no Date")


def _expect_digest(answer: Response, body: bytes) -> None:
    expect(answer.status == 200, f"status {answer.status}")
    size, _, digest = answer.body.decode("latin-1").partition(" ")
    expect(size.isdigit(), f"another answer: {answer.body[:60]!r}")
    if digest != hashlib.sha256(body).hexdigest():
        fault = Fault.TRUNCATION if int(size) < len(body) else Fault.OTHER
        raise Failed(f"the application got {size} of {len(body)} bytes", fault)
