"""The end of a worker: requests in flight are finished, idle connections delay nothing, the queue waits."""

from __future__ import annotations

from collections.abc import Iterator

from forkserve.testing.client import expect
from forkserve.testing.outcome import Check
from forkserve.testing.worker import WorkerUnderTest

__all__ = ["stops"]


def stops() -> Iterator[Check]:
    """Yield the checks; each ends the worker and starts another."""
    yield Check("a request in flight is finished, and the exit code is 0", _in_flight)
    yield Check("idle connections do not hold up the end", _idle)
    yield Check("what waits in the queue is served by the next worker", _queued)


def _in_flight(worker: WorkerUnderTest) -> None:
    with worker.connect() as connection:
        connection.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        worker.entered()
        worker.terminate()
        worker.release()
        answer = connection.response()
        expect(answer.body == b"waited", f"got {answer.body!r}")
    expect(worker.ended() == 0, f"exit code {worker.process.returncode}")


def _idle(worker: WorkerUnderTest) -> None:
    worker.restart()
    expect(worker.ask("/").status == 200, "not served")
    with worker.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.response()
        worker.terminate()
        expect(worker.ended() == 0, f"exit code {worker.process.returncode}")


def _queued(worker: WorkerUnderTest) -> None:
    worker.restart()
    expect(worker.ask("/").status == 200, "not served")
    worker.terminate()
    worker.ended()
    with worker.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        worker.restart()
        expect(connection.response().status == 200, "not served")
