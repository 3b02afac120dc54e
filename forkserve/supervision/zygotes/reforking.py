"""Which slot is replaced next on the way to a reforked zygote: decided from the current state, at every event.

Theory of operation. A worker that has served enough requests is warm. The first such worker gets a successor in its
slot, drains, and becomes the zygote; then the other slots get children of it, one at a time. When these are warm in
turn, their memory is compared with that of the ones before: as long as it falls, the same is done again.

Rules: it changes the state of a zygote, which is data, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forkserve.supervision.events import Event, ZygoteFinal
from forkserve.supervision.process import Process
from forkserve.supervision.slot import Slot
from forkserve.supervision.zygotes.state import ZygoteState

__all__ = ["next_slot"]

WORTH = 0.95
"""Share of the former memory that a worker may have for another round to be worth it."""

MEASURED = 4
"""Workers that are measured, since the kernel counts pages for each."""


def next_slot(
    state: ZygoteState,
    slots: Mapping[int, Slot],
    *,
    alive: Callable[[int], bool],
    pss_of: Callable[[int], int | None],
    emit: Callable[[Event], None],
) -> int | None:
    """Return the slot that is to be replaced, None for none; every slot has an occupant that is ready.

    `alive` tells whether there is a process with a number, `pss_of` how many bytes of memory a pid has, None if
    unknown.
    """
    occupants = [slot.occupant for slot in slots.values() if slot.occupant is not None]
    if any(each.generation != state.generation for each in occupants) or not occupants:
        return None
    name = occupants[0].watcher
    if state.promoting:
        is_occupant = any(each.number == state.promoting for each in occupants)
        if alive(state.promoting) and not is_occupant:
            return None
        what = "its successor cannot be started" if is_occupant else "it has ended instead, and said why"
        _stop(state, f"a worker does not become the zygote: {what}", name, emit)
    if state.reforks and not state.enough:
        behind = [each for each in occupants if each.forked_by != state.process]
        if state.moving and any(each.wid == state.moving for each in behind):
            _stop(state, "a child of the new zygote cannot be started", name, emit)
            return None
        state.moving = behind[0].wid if behind else 0
        if behind:
            return state.moving
    return None if state.enough else _candidate(state, occupants, pss_of, emit)


def _candidate(
    state: ZygoteState,
    occupants: Sequence[Process],
    pss_of: Callable[[int], int | None],
    emit: Callable[[Event], None],
) -> int | None:
    warm = next((each for each in occupants if each.warm and each.forked_by == state.process), None)
    if warm is None:
        return None
    measured = [size for each in occupants[:MEASURED] if (size := pss_of(each.pid)) is not None]
    pss = sum(measured) / len(measured) if measured else None
    if state.reforks and (pss is None or state.pss is None or pss > WORTH * state.pss):
        before, after = (0 if size is None else round(size / 2**20) for size in (state.pss, pss))
        _stop(state, f"a worker has {after} MiB now, before it had {before}", warm.watcher, emit)
        return None
    state.pss, state.promoting = pss, warm.number
    return warm.wid


def _stop(state: ZygoteState, reason: str, watcher: str, emit: Callable[[Event], None]) -> None:
    state.enough, state.promoting, state.moving = True, 0, 0
    emit(ZygoteFinal(watcher=watcher, generation=state.generation, rounds=state.reforks, reason=reason))
