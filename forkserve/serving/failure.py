"""An application's failures in the log: one clear line, then the user's own frames and none of ours."""

from __future__ import annotations

import logging
import os
import traceback
from types import FrameType, TracebackType
from typing import Any

import forkserve
from forkserve.serving.http.response import BadResponse

__all__ = [
    "OURS",
    "TimedOut",
    "awaited_frames",
    "due_to_loss",
    "log_failure",
    "log_overdue",
    "log_trace",
    "log_waiting",
]

log = logging.getLogger("forkserve.application")

OURS = os.path.dirname(forkserve.__file__) + os.sep
"""Where our own code lies: frames of files below it tell a user nothing."""
DEEPEST = 100
"""Most frames of a waiting coroutine that are logged."""


class TimedOut(BaseException):
    """The request exceeds `--timeout`. Not an Exception, so that an application does not swallow it."""


def due_to_loss(error: BaseException | None) -> bool:
    """Tell whether an application raised this because its client has left: frameworks wrap the OSError they get."""
    if isinstance(error, BaseExceptionGroup):
        return all(due_to_loss(each) for each in error.exceptions)
    return error is not None and (isinstance(error, OSError) or due_to_loss(error.__cause__ or error.__context__))


def log_failure(error: BaseException, method: str, path: str) -> None:
    """Log what an application raised; `path` is the client's, so it is written escaped."""
    trace = _of_user(error.__traceback__)
    if isinstance(error, BadResponse):
        _end_at_user(trace)
    kind = "the application's response" if isinstance(error, BadResponse) else type(error).__name__
    log.error(
        "%s %r failed: %s: %s", method, path, kind, error, exc_info=(type(error), error, trace) if trace else None
    )


def log_overdue(method: str, path: str, frame: FrameType | None) -> None:
    """Log where an overdue request is; `frame` is its innermost."""
    _log_where(method, path, traceback.extract_stack(frame))


def log_waiting(method: str, path: str, coroutine: Any) -> None:
    """Log where an overdue request waits, in a coroutine and in what that awaits."""
    _log_where(method, path, traceback.StackSummary.extract(iter(awaited_frames(coroutine))))


def awaited_frames(coroutine: Any) -> list[tuple[FrameType, int]]:
    """Return the frames of a coroutine and of what it awaits, the innermost last; for any thread."""
    frames: list[tuple[FrameType, int]] = []
    while coroutine is not None and len(frames) < DEEPEST:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return frames


def _log_where(method: str, path: str, stack: traceback.StackSummary) -> None:
    ours = [index for index, each in enumerate(stack) if each.filename.startswith(OURS)]
    # The last of ours in a row from the outside: what follows is what the application called.
    first = next((index + 1 for index in ours if index + 1 < len(stack) and index + 1 not in ours), 0)
    trace = "".join(traceback.format_list(stack[first:])).rstrip()
    log_trace(log, trace, "%s %r takes too long; it is here:", method, path)


def log_trace(logger: logging.Logger, trace: str, message: str, *args: object) -> None:
    """Log an error with a traceback in text, if there is one, in the way handlers expect it: beside the message."""
    record = logger.makeRecord(
        logger.name, logging.ERROR, "(forkserve)", 0, message, args, exc_info=None, sinfo=trace or None
    )
    logger.handle(record)


def _of_user(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    return trace


def _end_at_user(trace: TracebackType | None) -> None:
    """Cut off our own frames after the user's last one: the message says what was wrong with the call."""
    while trace is not None and trace.tb_next is not None:
        if trace.tb_next.tb_frame.f_code.co_filename.startswith(OURS):
            trace.tb_next = None
        trace = trace.tb_next
