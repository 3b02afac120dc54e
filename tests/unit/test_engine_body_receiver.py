"""How long the body of a request may take."""

from __future__ import annotations

from forkserve.config.serving import HttpLimits, Timeouts
from forkserve.serving.engine.body_receiver import CREDIT, BodyReceiver
from forkserve.serving.http.fields import EnvironCollector
from forkserve.serving.http.remembered import RememberedFields
from forkserve.serving.http.request import Profile, RequestReader

GRACE = 30.0
LIMITS = HttpLimits()
TIMEOUTS = Timeouts(body_timeout=GRACE, min_rate=500)


def receiver(field: str) -> BodyReceiver:
    reader = RequestReader(Profile(LIMITS, EnvironCollector, RememberedFields))
    assert reader.feed(f"POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
    return BodyReceiver(reader.fields, LIMITS, TIMEOUTS, 0.0)


def cut_at(body: BodyReceiver, block: bytes, every: float) -> float:
    """Return when a body is too late that comes in such blocks."""
    now, until = 0.0, body.deadline(0.0)
    while now + every < until and not body.done:
        now += every
        body.feed(block)
        until = body.deadline(now)
    return until if not body.done else float("inf")


def test_a_megabyte_that_drips_takes_half_an_hour_at_most() -> None:
    for size in (1, 100, 1000, 10_000):
        assert cut_at(receiver("Content-Length: 1000000"), b"x" * size, 29.0) <= GRACE + 1_000_000 / 500


def test_a_large_body_at_the_rate_is_never_too_late() -> None:
    assert cut_at(receiver("Content-Length: 100000000"), b"x" * 15_000, 29.0) == float("inf")


def test_stalls_of_a_fast_body_are_forgiven() -> None:
    body = receiver("Content-Length: 100000000")
    body.feed(b"x" * 10_000_000)
    body.deadline(1.0)
    assert cut_at(body, b"x", 29.0) > 5 * GRACE


def test_a_fast_begin_buys_no_hours() -> None:
    body = receiver("Content-Length: 1000000000")
    body.feed(b"x" * 900_000_000)
    body.deadline(0.0)
    assert cut_at(body, b"x", 29.0) <= CREDIT * GRACE + GRACE


def test_the_framing_of_chunks_is_no_progress() -> None:
    assert cut_at(receiver("Transfer-Encoding: chunked"), b"1\r\nx\r\n", 0.05) < 2 * GRACE


def test_time_in_which_the_application_holds_the_client_back_does_not_count() -> None:
    body = receiver("Content-Length: 1000000")
    body.hold(10.0)
    body.release(1000.0)
    assert body.deadline(1000.0) == 1000.0 + 20.0
