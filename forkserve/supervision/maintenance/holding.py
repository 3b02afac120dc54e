"""Makes the processes of a watcher accept nothing for a while, without stopping them.

Rules: it writes orders on the scoreboard; they are obeyed by forkserve-worker with a backend that takes part.
"""

from __future__ import annotations

from forkserve.errors import ControlError
from forkserve.supervision.events import WatcherHeld
from forkserve.supervision.watcher import Watcher

__all__ = ["hold"]


def hold(watcher: Watcher, *, wid: int | None, wanted: bool) -> WatcherHeld:
    """Make its processes, or that of one slot, accept nothing for now, or accept again.

    Raises ControlError if there is none that would obey.
    """
    if not (watcher.command.is_worker and watcher.command.all_sockets):
        raise ControlError(f"{watcher.name} cannot be drained: only forkserve-worker on sockets of ours can")
    processes = watcher.processes
    meant = [each for each in processes if wid in (None, each.wid) and not (each.is_asked_to_end or each.is_zygote)]
    if not meant:
        raise ControlError(f"{watcher.name}{'' if wid is None else f'[{wid}]'} does not run")
    deaf = next((each for each in meant if each.is_ready and not processes.takes_part(each)), None)
    if deaf is not None:
        raise ControlError(f"{deaf} cannot be drained: its backend does not take part in the scoreboard")
    if wid is None:
        watcher.population.held = wanted
    for each in meant:
        processes.hold(each, wanted=wanted)
    processes.board.ring()
    told = WatcherHeld(watcher=watcher.name, held=wanted, processes=len(meant), wid=wid)
    watcher.emit(told)
    return told
