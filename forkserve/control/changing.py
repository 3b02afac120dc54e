"""The verbs that change what is configured."""

from __future__ import annotations

from forkserve.config.model import WatcherOptions
from forkserve.config.options import ReloadCost, options_of
from forkserve.control.context import Context
from forkserve.control.schema import SetOptions
from forkserve.errors import ControlError
from forkserve.suggest import nearest
from forkserve.supervision.completion import Completion

__all__ = ["set_"]


def set_(context: Context, asked: SetOptions) -> Completion:
    """Check every option before any is changed; only the number of processes can be set so far."""
    context.master.view(asked.watcher)
    for name in asked.options:
        if name != "numprocesses":
            raise ControlError(_cannot_set(name))
    value = asked.options.get("numprocesses")
    if value is None:
        raise ControlError("no option given")
    try:
        number = int(str(value))
    except ValueError:
        raise ControlError(f"numprocesses: expected an integer, got {value!r}") from None
    return context.master.set_numprocesses(asked.watcher, number)


def _cannot_set(name: str) -> str:
    known = {option.name: option for option in options_of(WatcherOptions)}
    if name not in known:
        return f"unknown option {name!r}{nearest(name, known)}"
    cost = known[name].reload
    how = "change it in the configuration, then `forkservectl reloadconfig`"
    return f"{name} cannot be set while running{'' if cost is ReloadCost.LIVE else f' ({cost.value})'}: {how}"
