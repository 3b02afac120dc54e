"""The state of the zygote of one generation, as data.

Rules: plain values only, so that all of it can be serialised (`state`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forkserve.supervision.deadline import Deadline

__all__ = ["ZygoteState"]


@dataclass(slots=True, kw_only=True)
class ZygoteState:
    """The zygote of one generation, over its lives.

    `process` is the number of its current process, 0 if there is none, and `channel` the descriptor for orders to it,
    or -1. `waiting` are the numbers of the processes that it is to fork, and `asked` is the one that was ordered, or 0.
    `was_ready` means that its application could be imported once. `failures` counts its losses in a row, after which it
    is tried again at `retry`; `given_up` means that workers are executed instead. A `retired` one only ends. `reforks`
    counts the workers that became zygotes, `promoting` is the number of the next one, `moving` the slot that is getting
    a child of the current one, `pss` the bytes of memory that a worker had before, and `enough` means that no other
    worker is to become one. One on `standby` is kept only for a rollback, and the instant is that of the next check of
    the memory.
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
