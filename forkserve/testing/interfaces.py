"""PEP 3333 under the standard's own validator, and ASGI 3 as far as an application can see it."""

from __future__ import annotations

import base64
import json
import select
import time
from collections.abc import Iterator

from forkserve.testing.client import expect
from forkserve.testing.outcome import Check
from forkserve.testing.worker import PATIENCE, WorkerUnderTest

__all__ = ["asgi_checks", "wsgi_checks"]

_WSGI = {
    "GET": ("/", "GET", b"", 200, b"plain"),
    "read with sizes": ("/read", "POST", b"abcdef" * 10, 200, b"abcdef" * 10),
    "readline": ("/readline", "POST", b"one\ntwo", 200, b"one\n|two"),
    "iteration over the input": ("/lines", "POST", b"one\ntwo\n", 200, b"one\n|two\n"),
    "a generator": ("/stream", "GET", b"", 200, b"0,1,2,3,4,"),
    "write()": ("/write", "GET", b"", 200, b"first last"),
    "start_response called again with exc_info": ("/retracted", "GET", b"", 503, b"sorry"),
    "no blocks at all": ("/none", "GET", b"", 200, b""),
    "HEAD": ("/", "HEAD", b"", 200, b""),
    "DELETE with a body": ("/read", "DELETE", b"abc", 200, b"abc"),
}


def wsgi_checks() -> Iterator[Check]:
    """Yield the checks of an application under wsgiref.validate; each violation is a 500."""
    for name, (path, method, body, status, answer) in _WSGI.items():

        def run(
            worker: WorkerUnderTest, facts: tuple[str, str, bytes, int, bytes] = (path, method, body, status, answer)
        ) -> None:
            path, method, body, status, expected = facts
            seen = worker.ask(path, method=method, body=body)
            expect((seen.status, seen.body) == (status, expected), f"{seen.status} {seen.body[:60]!r}")

        yield Check(name, run)
    yield Check("close() is called once for each result", _closes)
    yield Check("the validator has nothing to complain of", _quiet)


def _closes(worker: WorkerUnderTest) -> None:
    before = _counted(worker, "closed")
    for _ in range(3):
        worker.ask("/stream")
    after = _counted(worker, "closed")
    expect(after - before == 4, f"{after - before} of 4")


def _quiet(worker: WorkerUnderTest) -> None:
    log = worker.log
    for complaint in ("AssertionError:", "garbage collected without being closed", "WSGIWarning:"):
        _, found, text = log.partition(complaint)
        expect(not found, f"{complaint} {text.splitlines()[0].strip()}" if text else complaint)


def asgi_checks() -> Iterator[Check]:
    """Yield the checks of ASGI; the application checks each scope."""
    yield Check("the scope is by the specification", lambda worker: expect(worker.ask("/").status == 200, "it is not"))
    yield Check("lifespan begins before requests, and its state is theirs", _lifespan)
    yield Check("the application sees that a client leaves", _disconnect)
    yield Check("a WebSocket echoes", _websocket)


def _lifespan(worker: WorkerUnderTest) -> None:
    answer = worker.ask("/lifespan").body
    expect(answer == b"begun yes", answer.decode("latin-1"))


def _disconnect(worker: WorkerUnderTest) -> None:
    before = _counted(worker, "gone")
    with worker.connect() as connection:
        connection.send(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
    deadline = time.monotonic() + PATIENCE / 4
    while _counted(worker, "gone") == before:
        expect(time.monotonic() < deadline, "the application was not told")
        select.select([], [], [], 0.01)


def _websocket(worker: WorkerUnderTest) -> None:
    key = base64.b64encode(bytes(16)).decode()
    with worker.connect() as connection:
        connection.send(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = connection.response()
        expect(answer.status == 101, f"status {answer.status}")
        # A final text frame under an all-zero mask, so that its payload stands as it is (RFC 6455 section 5.2).
        connection.send(b"\x81\x82" + bytes(4) + b"hi")
        frame = connection.exactly(9)
        expect(frame == b"\x81\x07echo hi", f"got {frame!r}")


def _counted(worker: WorkerUnderTest, name: str) -> int:
    return int(json.loads(worker.ask("/counted").body)[name])
