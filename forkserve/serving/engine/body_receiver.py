"""The body of one request on its way in, and how long its client may take for it."""

from __future__ import annotations

from forkserve.config.serving import HttpLimits, Timeouts
from forkserve.serving.http.body import BodyReader, body_reader
from forkserve.serving.http.fields import Fields

__all__ = ["BodyReceiver"]

CREDIT = 10
"""How many times the limit on silence a fast body may be slow afterwards."""


class BodyReceiver:
    """Bytes become body bytes; raises Refusal like the reader beneath."""

    __slots__ = ("_due", "_reader", "_timeouts", "held_since")

    def __init__(self, fields: Fields, limits: HttpLimits, timeouts: Timeouts, now: float) -> None:
        self._reader: BodyReader = body_reader(fields, limits)  # type: ignore[assignment]
        self._timeouts = timeouts
        self._due = now + timeouts.body_timeout
        self.held_since: float | None = None

    @property
    def done(self) -> bool:
        """True when the body is whole."""
        return self._reader.done

    @property
    def rest(self) -> bytes:
        """What followed the body."""
        return self._reader.rest

    def feed(self, data: bytes) -> bytes:
        """Take what was received; return what of it is body."""
        block = self._reader.feed(data)
        if self._timeouts.min_rate:
            self._due += len(block) / self._timeouts.min_rate
        return block

    def hold(self, now: float) -> None:
        """Called when no more is read for now: the client is not to blame for what does not come."""
        self.held_since = now

    def release(self, now: float) -> None:
        """Called when more is read again."""
        if self.held_since is not None:
            self._due += now - self.held_since
            self.held_since = None

    def deadline(self, now: float) -> float:
        """Return until when more must have come: silence has a limit, and so has dripping.

        Each byte of the body moves the second one by what it may take at the minimum rate. So a body that keeps to
        the rate on average is never too late, whatever its size; one that came fast has saved up CREDIT at most, which
        a client could use to hold its connection.
        """
        timeouts = self._timeouts
        if self.held_since is not None:
            return self.held_since + timeouts.timeout
        silent = now + timeouts.body_timeout
        if not timeouts.min_rate:
            return silent
        self._due = min(self._due, now + CREDIT * timeouts.body_timeout)
        return min(silent, self._due)
