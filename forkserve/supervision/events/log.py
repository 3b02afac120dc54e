"""Writes every event to the log: the only place where facts of supervision become lines."""

from __future__ import annotations

import logging

from forkserve.supervision.events import Event

__all__ = ["log_event"]


def log_event(event: Event) -> None:
    """Log an event by the logger of its channel; subscribe it to an EventBus."""
    logger = logging.getLogger(f"forkserve.{event.channel}")
    if logger.isEnabledFor(event.level):
        record = logger.makeRecord(
            logger.name, event.level, "(forkserve)", 0, "%s", (event.text(),), None, sinfo=event.detail() or None
        )
        logger.handle(record)
