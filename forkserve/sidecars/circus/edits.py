"""Circus's commands that change the configuration: `add`, `rm`, `set`."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from forkserve.errors import ControlError
from forkserve.sidecars.circus.optiontypes import checked
from forkserve.sidecars.circus.orders import changes
from forkserve.sidecars.circus.properties import name_of, object_of, required, string_of
from forkserve.sidecars.circus.protocol import CircusRequest, MessageRefused
from forkserve.sidecars.circus.service import Answer, CircusService

__all__ = ["EDITS"]

_AGES = frozenset(("max_age", "max_age_variance"))
"""Options for which Circus replaces the processes, so that running ones have them too."""

_WITHOUT_EFFECT = frozenset(("retry_in", "check_flapping"))
"""Options that Circus accepts, and that have no effect there either."""


async def _set(service: CircusService, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "options")
    options = _without_dead(checked(object_of(request, "options")))
    if not options:
        return {}
    # what is taken over at once is in force when it is answered, as in Circus; a number of processes may take long
    waits = request.waiting or "numprocesses" not in options
    try:
        await service.client.call("set", watcher=name, options=options, reload=not waits, waiting=waits)
    except ControlError as error:
        if error.code != "needs-reload":
            raise
        # Circus replaces the processes where an option takes that, unasked
        await service.client.call(
            "set", request.on_begun, watcher=name, options=options, reload=True, waiting=request.waiting
        )
    else:
        if _AGES & options.keys() and await service.pids(name):
            how = {"at_once": True, "waiting": request.waiting}
            await service.client.call("reload", request.on_begun, watcher=name, **how)
    return {}


async def _add(service: CircusService, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "cmd")
    options = _without_dead(checked(object_of(request, "options")))
    if service.owner is not None and str(options.get("uid")) != service.owner:
        raise MessageRefused("uid does not match endpoint_owner")
    cmd = string_of(request, "cmd")
    await service.client.call("add", watcher=name, cmd=cmd, args=_args(request), options=options)
    if not request.properties.get("start", False):
        return {}
    await service.client.call("start", request.on_begun, watcher=name, waiting=request.waiting)
    return changes([], await service.pids(name)) if request.waiting else {}


def _args(request: CircusRequest) -> str | None:
    args = request.properties.get("args")
    if isinstance(args, list):
        return shlex.join(map(str, args))
    return string_of(request, "args")


async def _rm(service: CircusService, request: CircusRequest) -> Answer:
    name, nostop = name_of(request), bool(request.properties.get("nostop", False))
    await service.client.call("rm", request.on_begun, watcher=name, nostop=nostop, waiting=request.waiting)
    return {}


def _without_dead(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in _WITHOUT_EFFECT}


EDITS: Mapping[str, Callable[[CircusService, CircusRequest], Awaitable[Answer]]] = {
    "add": _add,
    "rm": _rm,
    "set": _set,
}
