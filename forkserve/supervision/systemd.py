"""Tells the systemd that started the master how far a stop has come, by STATUS= of sd_notify(3).

Rules: a subscriber of the bus; without NOTIFY_SOCKET it does nothing.
"""

from __future__ import annotations

from forkserve.supervision.events import Event, MasterStopped, StopStage, WatcherDelayed, WatcherStopped
from forkserve.unix.notify import notify

__all__ = ["tell_systemd"]

_TOLD = (MasterStopped, StopStage, WatcherDelayed, WatcherStopped)


def tell_systemd(event: Event) -> None:
    """Pass on a fact about stopping; subscribe it to an EventBus."""
    if isinstance(event, _TOLD):
        notify(f"STATUS={event.text()}")
