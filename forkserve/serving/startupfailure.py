"""Which of several workers that can never start reports the reason: only the first.

Workers of a watcher start together, and an error of their application is the same in each. The master gives up at the
first end and kills the others; a worker with the same report waits for that. Nothing here runs without an error.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from select import poll

from forkserve.config.handover import SCOREBOARD, ZYGOTE_WID, identity_from
from forkserve.unix.scoreboard import Field, OwnRecord, RecordState

__all__ = ["leave_report_to_predecessors"]

_STARTING = 4.0
"""Most seconds to wait for older workers, which may be about to fail as well, or to serve."""
_KILL = 1.0
"""Seconds to wait without an older worker: for one to come, and for the master, which has reaped one, to decide."""
_LOOK = 0.02
"""Seconds between two looks at the scoreboard."""


def leave_report_to_predecessors(environ: Mapping[str, str]) -> None:
    """Wait until this process is killed, or no older one is left that may report why none of them can start.

    `environ` is that of the start of the process. A stop signal ends it.
    """
    identity = identity_from(environ)
    if identity is None or identity.wid == ZYGOTE_WID:
        return
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_DFL)
    seat = _seat(environ.get(SCOREBOARD, ""))
    # The first process of a watcher may be slow to come, and have no record yet.
    begun = time.monotonic()
    alone_since = begun if identity.wid > 1 else begun - _KILL
    while (now := time.monotonic()) < begun + _STARTING:
        if seat is not None and _predecessors(seat):
            alone_since = now
        elif now >= alone_since + _KILL:
            return
        _pause(_LOOK)


def _predecessors(seat: OwnRecord) -> int:
    """Return how many processes of this generation took their records before this one, and do not serve yet."""
    seat.refresh()
    own = seat.words[Field.GENERATION]
    before = list(seat.board())[: seat.index]
    return sum(record[0] == RecordState.STARTING and record[1] == own for record in before)


def _seat(text: str) -> OwnRecord | None:
    try:
        fd, bell, index = (int(part) for part in text.split(":"))
        return OwnRecord(fd, bell, index)
    except (ValueError, OSError):
        return None


def _pause(seconds: float) -> None:
    poll().poll(seconds * 1000)
