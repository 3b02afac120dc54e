"""What a process says by sd_notify(3), parsed and applied: readiness, reloads, its watchdog, more time, its errno.

Rules: pure. Invalid numbers are ignored, as by systemd. `fdstore` handles descriptors that come along.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from forkserve.supervision.deadline import Deadline, DeadlineKind
from forkserve.supervision.process import Process

__all__ = ["LONGEST_STATUS", "Notification", "begin_watchdog", "hear", "read"]

LONGEST_STATUS = 300
"""Characters of STATUS= that are kept, with the text of ERRNO=."""
_DIGITS = 18
"""Most digits of a number, so that it fits into 64 bits."""
_USEC = 1e-6
_EXTENDABLE = frozenset({DeadlineKind.READY, DeadlineKind.SETTLE, DeadlineKind.STOP})


@dataclass(frozen=True, slots=True)
class Notification:
    """One message. `watchdog` is "1" or "trigger"; `interval` and `extend` are seconds, None if not given."""

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    status: str | None = None
    watchdog: str = ""
    interval: float | None = None
    extend: float | None = None
    main_pid: int | None = None
    errno: int | None = None


def read(fields: Mapping[str, str]) -> Notification:
    """Return what the assignments of a message mean."""
    return Notification(
        ready=fields.get("READY") == "1",
        reloading=fields.get("RELOADING") == "1",
        stopping=fields.get("STOPPING") == "1",
        status=fields.get("STATUS"),
        watchdog=fields.get("WATCHDOG", ""),
        interval=_seconds(fields.get("WATCHDOG_USEC")),
        extend=_seconds(fields.get("EXTEND_TIMEOUT_USEC")),
        main_pid=_number(fields.get("MAINPID")),
        errno=_number(fields.get("ERRNO")),
    )


def _number(text: str | None) -> int | None:
    if not text or len(text) > _DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)


def _seconds(text: str | None) -> float | None:
    number = _number(text)
    return None if number is None else number * _USEC


def hear(process: Process, notification: Notification, now: float) -> None:
    """Apply what a process has said; its slot decides whether it is ready then."""
    if notification.status is not None:
        process.status = _shortened(notification.status)
    if notification.errno:
        process.status = _shortened(f"{process.status} ({os.strerror(notification.errno)})".strip())
    process.reloading = (process.reloading or notification.reloading) and not notification.ready
    process.said_stopping = process.said_stopping or notification.stopping
    process.leaves_by = None if notification.stopping else process.leaves_by
    if notification.interval is not None:
        process.watchdog = notification.interval
        process.watchdog_at = now + notification.interval if notification.interval and process.is_ready else None
    if notification.watchdog == "1" and process.watchdog_at is not None:
        process.watchdog_at = now + process.watchdog
    elif notification.watchdog == "trigger" and process.is_ready:
        process.watchdog_at = now
    if notification.extend is not None:
        _extend(process, now + notification.extend)


def _shortened(status: str) -> str:
    return status if len(status) <= LONGEST_STATUS else f"{status[: LONGEST_STATUS - 3]}..."


def begin_watchdog(process: Process, interval: float, now: float) -> None:
    """Expect WATCHDOG=1 from now on: a process is ready."""
    process.watchdog = process.watchdog or interval
    if process.watchdog and process.watchdog_at is None:
        process.watchdog_at = now + process.watchdog


def _extend(process: Process, instant: float) -> None:
    """Extend the current deadline, that of the start, the life or the stop, to at least this instant."""
    deadline = process.deadline
    if deadline is not None and deadline.kind in _EXTENDABLE and deadline.instant < instant:
        process.deadline = Deadline(instant, deadline.kind, deadline.timeout + instant - deadline.instant)
    if process.age_at is not None and process.age_at < instant:
        process.age_at = instant
