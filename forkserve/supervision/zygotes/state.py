"""What is known of the zygote of one generation, as data.

Rules: plain values only, so that all of it can be written down (`state`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forkserve.supervision.deadline import Deadline

__all__ = ["ZygoteState"]


@dataclass(slots=True, kw_only=True)
class ZygoteState:
    """The zygote of one generation, over its lives.

    `process` is the number of its present process, 0 while there is none, and `channel` the descriptor on which that
    is asked, or -1. `waiting` are the numbers of the processes that it is to fork, and `asked` is the one that it has
    been asked for, or 0. `was_ready` tells that its application could be imported once; `failures` counts its losses in
    a row, after which it is tried again at `retry`; `given_up` that workers are executed instead. A `retired` one only
    ends. `reforks` counts the workers that became zygotes, `promoting` is the number of the next that does, `moving`
    the slot that is being given a child of the present one, `pss` the bytes that a worker had in memory before, and
    `enough` tells that no other worker is to become one. One on `standby` is kept for a rollback alone, and the instant
    is when memory is looked at again.
    """

    generation: int
    process: int = 0
    channel: int = -1
    waiting: list[int] = field(default_factory=list)
    asked: int = 0
    deadline: Deadline | None = None
    was_ready: bool = False
    failures: int = 0
    retry: Deadline | None = None
    given_up: bool = False
    retired: bool = False
    reforks: int = 0
    promoting: int = 0
    moving: int = 0
    pss: float | None = None
    enough: bool = False
    standby: Deadline | None = None
