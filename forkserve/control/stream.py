"""The events of supervision as server-sent events: the last ones from a ring, then each as it happens.

The format is that of the HTML standard, section 9.2: `id`, `event` (the kind) and `data` (the event as JSON), then an
empty line. An event is encoded once, however many clients read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from forkserve.supervision.events import Event, as_data
from forkserve.supervision.events.bus import EventBus

__all__ = ["KEPT", "EventHistory", "Push", "Told"]

KEPT = 1000
"""Events that a client may still ask for."""

_OF_DEPLOYS = b"\nevent: reload."
"""The prefixes of the events of reloads."""

Push = Callable[[bytes], None]
"""Sends bytes to one client; never raises, and does nothing after the client has left."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event as text; `time` is in seconds since 1970."""

    time: float
    text: str


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    watcher: str
    data: bytes


class EventHistory:
    """Keeps the last events of a bus, and passes on new ones."""

    def __init__(self, bus: EventBus) -> None:
        self._last = 0
        self._kept: deque[_Sent] = deque(maxlen=KEPT)
        self._readers: dict[Push, str] = {}
        self.close = bus.subscribe(self._take)

    def to_data(self) -> dict[str, Any]:
        """Return the last number and the kept events, as plain data."""
        kept = [[each.number, each.watcher, each.data.decode()] for each in self._kept]
        return {"last": self._last, "kept": kept}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from the state of another one: numbers continue, and missed events can still be requested."""
        self._last = data["last"]
        self._kept.extend(_Sent(number, watcher, text.encode()) for number, watcher, text in data["kept"])

    def _take(self, event: Event) -> None:
        self._last += 1
        sent = _encode(self._last, event)
        self._kept.append(sent)
        for push, watcher in tuple(self._readers.items()):
            if watcher in ("", sent.watcher):
                push(sent.data)

    def past(self, *, watcher: str = "", last: int = KEPT, after: int = 0) -> bytes:
        """Return the `last` kept events, of one watcher if named, with numbers above `after`."""
        chosen = [each for each in self._kept if each.number > after and watcher.lower() in ("", each.watcher)]
        return b"".join(each.data for each in chosen[len(chosen) - last :]) if last > 0 else b""

    @property
    def last_deploy(self) -> Told | None:
        """The last event of a reload, while it is kept."""
        for each in reversed(self._kept):
            if _OF_DEPLOYS in each.data[:64]:
                return msgspec.json.decode(each.data.partition(b"\ndata: ")[2], type=Told)
        return None

    def follow(self, push: Push, *, watcher: str = "") -> Callable[[], None]:
        """Push each new event; returns a function that ends that."""
        self._readers[push] = watcher.lower()
        return partial(self._forget, push)

    def _forget(self, push: Push) -> None:
        self._readers.pop(push, None)


def _encode(number: int, event: Event) -> _Sent:
    data = {"id": number, "time": time.time(), **as_data(event)}
    text = b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.kind.encode(), msgspec.json.encode(data))
    return _Sent(number, str(data.get("watcher", "")).lower(), text)
