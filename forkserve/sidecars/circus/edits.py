"""Circus's commands that change what is configured: `add`, `rm`, `set`."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from forkserve.sidecars.circus.desk import Answer, Desk
from forkserve.sidecars.circus.orders import changes
from forkserve.sidecars.circus.properties import name_of, object_of, required, string_of
from forkserve.sidecars.circus.protocol import CircusRequest, MessageRefused

__all__ = ["EDITS"]

_WITHOUT_EFFECT = frozenset(("retry_in", "check_flapping"))
"""Options that Circus takes, and that do nothing there either."""


async def _set(desk: Desk, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "options")
    options = _without_dead(object_of(request, "options"))
    if options:
        # Circus replaces the processes where an option takes that, unasked
        await desk.client.call(
            "set", request.on_begun, watcher=name, options=options, reload=True, waiting=request.waiting
        )
    return {}


async def _add(desk: Desk, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "cmd")
    options = _without_dead(object_of(request, "options"))
    if desk.owner is not None and str(options.get("uid")) != desk.owner:
        raise MessageRefused("uid does not match endpoint_owner")
    start = bool(request.properties.get("start", False))
    await desk.client.call(
        "add",
        request.on_begun,
        watcher=name,
        cmd=string_of(request, "cmd"),
        args=_args(request),
        options=options,
        start=start,
        waiting=request.waiting,
    )
    return changes([], await desk.pids(name)) if start and request.waiting else {}


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
