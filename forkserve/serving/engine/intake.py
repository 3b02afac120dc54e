"""The body of one request on its way in, and how long its client may take for it."""

from __future__ import annotations

from forkserve.serving.engine.limits import Limits
from forkserve.serving.http.body import BodyReader, body_reader
from forkserve.serving.http.fields import Fields

__all__ = ["Intake"]


class Intake:
    """Bytes become body bytes; raises Refusal like the reader beneath."""

    __slots__ = ("_begun", "_limits", "_reader", "held_since", "received")

    def __init__(self, fields: Fields, limits: Limits, now: float) -> None:
        self._reader: BodyReader = body_reader(fields, limits.http)  # type: ignore[assignment]
        self._limits = limits
        self._begun = now
        self.received = 0
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
        self.received += len(data)
        return self._reader.feed(data)

    def hold(self, now: float) -> None:
        """Know that no more is read for now: the client is not to blame for what does not come."""
        self.held_since = now

    def release(self, now: float) -> None:
        """Know that more is read again."""
        if self.held_since is not None:
            self._begun += now - self.held_since
            self.held_since = None

    def deadline(self, now: float) -> float:
        """Return until when more must have come: silence has a limit, and so has dripping.

        A body that has come at the minimum rate so far is never too late, whatever its size.
        """
        limits = self._limits
        if self.held_since is not None:
            return self.held_since + limits.run
        silent = now + limits.body
        if not limits.min_rate:
            return silent
        return min(silent, self._begun + limits.body + self.received / limits.min_rate)
