"""The barrier around one event: an exception is a bug of forkserve, is reported as one, and costs only this event."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType

from forkserve.supervision.events import BugCaught, Event

__all__ = ["Barrier"]


class Barrier:
    """A context that catches any Exception and emits it as BugCaught; `where` names the event that is dropped."""

    def __init__(self, emit: Callable[[Event], None], where: str) -> None:
        self._emit = emit
        self._where = where

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> bool:
        """Catch an Exception; let SystemExit and KeyboardInterrupt pass."""
        if not isinstance(error, Exception):
            return False
        text = "".join(traceback.format_exception(kind, error, frames))
        self._emit(BugCaught(where=self._where, traceback=text))
        return True
