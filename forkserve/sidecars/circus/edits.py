"""Circus's commands that change the configuration: `add`, `rm`, `set`."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from forkserve.errors import ControlError
from forkserve.sidecars.circus.desk import Answer, Desk
from forkserve.sidecars.circus.optiontypes import checked
from forkserve.sidecars.circus.orders import changes
from forkserve.sidecars.circus.properties import name_of, object_of, required, string_of
from forkserve.sidecars.circus.protocol import CircusRequest, MessageRefused

__all__ = ["EDITS"]

_AGES = frozenset(("max_age", "max_age_variance"))
"""Options for which Circus replaces the processes, so that running ones have them too."""

_WITHOUT_EFFECT = frozenset(("retry_in", "check_flapping"))
"""Options that Circus accepts, and that have no effect there either."""


async def _set(desk: Desk, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "options")
    options = _without_dead(checked(object_of(request, "options")))
    if not options:
        return {}
    # what is taken over at once is in force when it is answered, as in Circus; a number of processes may take long
    waits = request.waiting or "numprocesses" not in options
    try:
        await desk.client.call("set", watcher=name, options=options, reload=not waits, waiting=waits)
    except ControlError as error:
        if error.code != "needs-reload":
            raise
        # Circus replaces the processes where an option takes that, unasked
        await desk.client.call(
            "set", request.on_begun, watcher=name, options=options, reload=True, waiting=request.waiting
        )
    else:
        if _AGES & options.keys():
            how = {"at_once": True, "waiting": request.waiting}
            await desk.client.call("reload", request.on_begun, watcher=name, **how)
    return {}


async def _add(desk: Desk, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "cmd")
    options = _without_dead(checked(object_of(request, "options")))
    if desk.owner is not None and str(options.get("uid")) != desk.owner:
        raise MessageRefused("uid does not match endpoint_owner")
    cmd = string_of(request, "cmd")
    await desk.client.call("add", watcher=name, cmd=cmd, args=_args(request), options=options)
    if not request.properties.get("start", False):
        return {}
    await desk.client.call("start", request.on_begun, watcher=name, waiting=request.waiting)
    return changes([], await desk.pids(name)) if request.waiting else {}


def _args(request: CircusRequest) -> str | None:
    args = request.properties.get("args")
    if isinstance(args, list):
        return shlex.join(map(str, args))
    return string_of(request, "args")


async def _rm(desk: Desk, request: CircusRequest) -> Answer:
    name, nostop = name_of(request), bool(request.properties.get("nostop", False))
    await desk.client.call("rm", request.on_begun, watcher=name, nostop=nostop, waiting=request.waiting)
    return {}


def _without_dead(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in _WITHOUT_EFFECT}


EDITS: Mapping[str, Callable[[Desk, CircusRequest], Awaitable[Answer]]] = {
    "add": _add,
    "rm": _rm,
    "set": _set,
}
