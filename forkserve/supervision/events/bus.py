"""Hands every event to every subscriber, in the order of emission.

Rules: an event that a subscriber emits waits until those before it have been delivered. The exception of a subscriber
is delivered once as `BugCaught`, and the others still get the event: no subscriber may stop what it reports on.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable

from forkserve.supervision.events import BugCaught, Event

__all__ = ["EventBus", "Subscriber"]

Subscriber = Callable[[Event], None]


class EventBus:
    """The event bus of one master. Single-threaded; it stores nothing."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self._waiting: deque[Event] = deque()
        self._handing_out = False

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with each event from now on; returns a function that ends the subscription."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Deliver an event; never raises."""
        self._waiting.append(event)
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while self._waiting:
                self._hand_out(self._waiting.popleft())
        finally:
            self._handing_out = False

    def _hand_out(self, event: Event) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:  # noqa: BLE001 - the barrier around each reader of facts
                if not isinstance(event, BugCaught):
                    self._waiting.append(BugCaught(where=f"a reader of {event.kind}", traceback=traceback.format_exc()))
