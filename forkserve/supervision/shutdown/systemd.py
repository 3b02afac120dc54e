"""Reports the progress of a stop to the systemd that started the master, by STATUS= of sd_notify(3).

Rules: a subscriber of the bus; without NOTIFY_SOCKET it does nothing.
"""

from __future__ import annotations

from forkserve.supervision.events import Event, MasterStopped, StopStage, WatcherDelayed, WatcherStopped
from forkserve.unix.notify import notify

__all__ = ["tell_systemd"]

SPARE = 5.0
"""Seconds beyond the time of a stage, for what follows."""
_TOLD = (MasterStopped, StopStage, WatcherDelayed, WatcherStopped)


def tell_systemd(event: Event) -> None:
    """Pass on an event about stopping; subscribe it to an EventBus."""
    if isinstance(event, _TOLD):
        more = _time_for(event)
        extend = f"\nEXTEND_TIMEOUT_USEC={int((more + SPARE) * 1e6)}" if more else ""
        notify(f"STATUS={event.text()}{extend}")


def _time_for(event: Event) -> float:
    """Return the seconds that a stage may last, for which TimeoutStopSec= may be too short."""
    if isinstance(event, WatcherDelayed):
        return event.seconds
    return event.grace if isinstance(event, WatcherStopped) and not event.done else 0.0
