"""Goes back to a former generation of a watcher: the job for it, or why there is none.

Theory of operation. Good generations are kept with their commands and with the folders that links led to then
(`templates`), and the last one with its zygote. The command is offered again, bound to its folder and to the current
queues of its sockets. The job rehearses it before it replaces anything, so a release that has been removed is reported,
and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from forkserve.errors import ControlError
from forkserve.supervision.jobs.advance import Reload
from forkserve.supervision.watcher import Watcher

__all__ = ["rollback_of"]


def rollback_of(watcher: Watcher, queues: Mapping[str, int]) -> Reload:
    """Return the job that goes back to the last good generation of a watcher; raises ControlError.

    `queues` are the numbers of all queues, by the lower-case names of their sockets.
    """
    templates = watcher.templates
    zygotes = watcher.population.zygotes
    back_to = zygotes.standby.youngest(zygotes.states) or templates.last_good
    if not back_to:
        raise ControlError(f"{watcher.name}: no other command or release is known that was good before")
    command = templates.pinned(back_to)
    missing = [name for name in command.all_sockets if name not in queues]
    if missing:
        raise ControlError(
            f"{watcher.name}: generation {back_to} had socket {missing[0]}, which is no longer configured"
        )
    numbers = {name: queues.get(name, number) for name, number in command.numbers.items()}
    return Reload(offer=watcher.offer(replace(command, numbers=numbers)), back_to=back_to)
