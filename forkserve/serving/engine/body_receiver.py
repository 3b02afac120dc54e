"""The body of one request as it arrives, and how long its client may take for it."""

from __future__ import annotations

from forkserve.config.serving import HttpLimits, Timeouts
from forkserve.serving.http.body import BodyReader, body_reader
from forkserve.serving.http.fields import Fields

__all__ = ["BodyReceiver"]

CREDIT = 10
"""The limit on silence, times this, is how long a fast body may be slow afterwards."""


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
        """Take received bytes; return the part that is body."""
        block = self._reader.feed(data)
        if self._timeouts.min_rate:
            self._due += len(block) / self._timeouts.min_rate
        return block

    def hold(self, now: float) -> None:
        """Called when nothing more is read for now: the client is not to blame for missing bytes."""
        self.held_since = now

    def release(self, now: float) -> None:
        """Called when reading resumes."""
        if self.held_since is not None:
            self._due += now - self.held_since
            self.held_since = None

    def deadline(self, now: float) -> float:
        """Return the instant by which more must have arrived: there is a limit on silence, and one on a trickle.

        Each byte of the body extends the second one by its time at the minimum rate. So a body that keeps the rate on
        average is never late, whatever its size; a fast one has saved up CREDIT at most, which a client could use to
        hold its connection.
        """
        timeouts = self._timeouts
        if self.held_since is not None:
            return self.held_since + timeouts.timeout
        silent = now + timeouts.body_timeout
        if not timeouts.min_rate:
            return silent
        self._due = min(self._due, now + CREDIT * timeouts.body_timeout)
        return min(silent, self._due)
