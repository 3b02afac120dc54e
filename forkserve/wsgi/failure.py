"""An application's error in the log: one clear line, then the user's own traceback, from the user's first frame."""

from __future__ import annotations

import logging
import os
from types import TracebackType

from forkserve.http.response import BadResponse

__all__ = ["log_failure"]

log = logging.getLogger("forkserve.wsgi")

OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep


def log_failure(error: BaseException, method: str, path: str) -> None:
    """Log what an application raised; `path` is the client's, so it is written escaped."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    trace = _of_user(error.__traceback__)
    kind = "the application's response" if isinstance(error, BadResponse) else type(error).__name__
    log.error(
        "%s %r failed: %s: %s", method, path, kind, error, exc_info=(type(error), error, trace) if trace else None
    )


def _of_user(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    return trace
