"""What one process gets of the master: where its output goes, and what it has for itself."""

from __future__ import annotations

from dataclasses import dataclass

from forkserve.supervision.spawning.fdstore import StoredFd
from forkserve.unix.scoreboard import RecordHandle

__all__ = ["Handover", "Outputs"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Destinations of standard output and error of one process: descriptors of the master, None for /dev/null."""

    stdout: int | None = 1
    stderr: int | None = 2


@dataclass(frozen=True, slots=True)
class Handover:
    """What one process gets for itself: its record on the scoreboard, its notify socket, what was stored for it.

    With `own_queues` no other slot reads from its queues; `circus_wid` is `$(circus.wid)`, 0 for the slot's number.
    """

    place: RecordHandle | None = None
    notify_address: str | None = None
    stored: tuple[StoredFd, ...] = ()
    own_queues: bool = False
    circus_wid: int = 0
