"""Circus's commands that start, stop and replace processes, and signal them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from forkserve.control.matching import matching
from forkserve.errors import ControlError, UsageError
from forkserve.sidecars.circus import statswatcher
from forkserve.sidecars.circus.properties import integer_of, name_of, number_of, required, string_of
from forkserve.sidecars.circus.protocol import CircusRequest, MessageRefused
from forkserve.sidecars.circus.service import Answer, CircusService

__all__ = ["ORDERS", "changes"]


def changes(before: list[int], after: list[int]) -> Answer:
    """Return which processes are new and which have stayed."""
    return {
        "started": [each for each in after if each not in before],
        "kept": [each for each in after if each in before],
    }


async def _meant(service: CircusService, request: CircusRequest) -> list[str] | None:
    """Return the watchers that a request's pattern matches, None for all."""
    name = string_of(request, "name")
    if name is None:
        return None
    try:
        meant = matching(await service.names(), name, string_of(request, "match") or "glob")
    except UsageError as error:
        raise MessageRefused(str(error)) from None
    if not meant:
        is_ours = await statswatcher.is_meant(service, name)
        raise MessageRefused(statswatcher.REFUSAL if is_ours else f"program {name} not found")
    return meant


async def _run(
    verb: str, service: CircusService, request: CircusRequest, info: Callable[[list[int], list[int]], Any]
) -> Answer:
    meant = await _meant(service, request)
    one = meant[0] if meant is not None and len(meant) == 1 and request.waiting else None
    before = await service.pids(one) if one is not None else []
    await service.client.call(verb, request.on_begun, watchers=meant, waiting=request.waiting)
    return {} if one is None else {"info": info(before, await service.pids(one))}


async def _start(service: CircusService, request: CircusRequest) -> Answer:
    return await _run("start", service, request, changes)


async def _stop(service: CircusService, request: CircusRequest) -> Answer:
    return await _run("stop", service, request, lambda _before, _after: None)


async def _restart(service: CircusService, request: CircusRequest) -> Answer:
    return await _run("restart", service, request, lambda old, new: {"stopped": old, **changes(old, new)})


async def _reload(service: CircusService, request: CircusRequest) -> Answer:
    name = string_of(request, "name")
    one = name if request.waiting else None
    before = await service.pids(one) if one is not None else []
    how = {"terminate": not request.properties.get("graceful", True)}
    how["at_once"] = not (how["terminate"] or request.properties.get("sequential", False))
    await service.client.call("reload", request.on_begun, watcher=name, waiting=request.waiting, **how)
    if one is None:
        return {}
    after = await service.pids(one)
    return {"info": {"stopped": [each for each in before if each not in after], **changes(before, after)}}


async def _reloadconfig(service: CircusService, request: CircusRequest) -> Answer:
    await service.client.call("reloadconfig", request.on_begun, waiting=request.waiting)
    return {}


async def _quit(service: CircusService, request: CircusRequest) -> Answer:
    # the master answers last of all, when this program has ended
    await service.client.call("quit", waiting=False)
    request.on_begun()
    if request.waiting:
        await service.ending.wait()
    return {}


async def _incr(service: CircusService, request: CircusRequest) -> Answer:
    return await _resize("incr", service, request)


async def _decr(service: CircusService, request: CircusRequest) -> Answer:
    return await _resize("decr", service, request)


async def _resize(verb: str, service: CircusService, request: CircusRequest) -> Answer:
    name, count = name_of(request), integer_of(request, "nb")
    count = 1 if count is None else count
    if count < 0:
        raise MessageRefused(f"{verb} by {count}: 'nb' should be at least 0")
    options: Answer = await service.client.call("get", watcher=name, keys=["numprocesses", "singleton"])
    if options["singleton"]:  # Circus leaves it alone both ways
        return options
    if count:
        await service.client.call(verb, request.on_begun, watcher=name, count=count, waiting=request.waiting)
    if not request.waiting:
        return {}
    resized: Answer = await service.client.call("get", watcher=name, keys=["numprocesses"])
    return resized


async def _signal(service: CircusService, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "signum")
    given: Answer = {key: integer_of(request, key) for key in ("pid", "childpid")}
    given |= {key: bool(request.properties.get(key)) for key in ("children", "recursive")}
    await _unless_gone(service.client.call("signal", watcher=name, signal=_signum(request), **given))
    return {}


async def _kill(service: CircusService, request: CircusRequest) -> Answer:
    name = name_of(request)
    given: Answer = {"pid": integer_of(request, "pid"), "graceful_timeout": number_of(request, "graceful_timeout")}
    if request.properties.get("signum") is not None:
        given["signum"] = _signum(request)
    await _unless_gone(service.client.call("kill", request.on_begun, watcher=name, waiting=request.waiting, **given))
    return {}


def _signum(request: CircusRequest) -> str | int:
    value = request.properties["signum"]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise MessageRefused("signal invalid")
    return value


async def _unless_gone(call: Awaitable[Any]) -> None:
    """Wait for a call; a missing process is no error: it may have ended since its pid was sent."""
    try:
        await call
    except ControlError as error:
        if error.code != "no-such-process":
            raise


ORDERS: Mapping[str, Callable[[CircusService, CircusRequest], Awaitable[Answer]]] = {
    "decr": _decr,
    "incr": _incr,
    "kill": _kill,
    "quit": _quit,
    "reload": _reload,
    "reloadconfig": _reloadconfig,
    "restart": _restart,
    "signal": _signal,
    "start": _start,
    "stop": _stop,
}
