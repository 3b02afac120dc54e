"""Circus's commands that only read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from forkserve.errors import ControlError
from forkserve.sidecars.circus import statswatcher
from forkserve.sidecars.circus.figures import info_of, watcher_options
from forkserve.sidecars.circus.listing import listed
from forkserve.sidecars.circus.properties import integer_of, name_of, required, string_of
from forkserve.sidecars.circus.protocol import CircusRequest, MessageRefused
from forkserve.sidecars.circus.service import Answer, CircusService

__all__ = ["QUESTIONS", "sockets_of"]

_FIRST_SOCKET = 3
"""The first socket of a process that gets all; Circus's numbers are those of its processes, too."""

_GLOBAL = ("endpoint", "stats_endpoint", "pubsub_endpoint", "check_delay", "multicast_endpoint")


async def _list(service: CircusService, request: CircusRequest) -> Answer:
    name = string_of(request, "name")
    if await statswatcher.is_meant(service, name):
        return {"pids": statswatcher.pids()}
    if name is not None:
        return {"pids": await service.pids(name)}
    more = [statswatcher.NAME] if await statswatcher.is_shown(service) else []
    return {"watchers": sorted([*(each.lower() for each in await service.names()), *more])}


async def _status(service: CircusService, request: CircusRequest) -> Answer:
    name = string_of(request, "name")
    if await statswatcher.is_meant(service, name):
        return {"status": statswatcher.STATE}
    views = await service.views(name)
    if name is not None:
        return {"status": _state(views[0])}
    more = {statswatcher.NAME: statswatcher.STATE} if await statswatcher.is_shown(service) else {}
    return {"statuses": {each["name"]: _state(each) for each in views} | more}


def _state(view: Any) -> str:
    """Return a state in Circus's words.

    A FATAL or waiting watcher runs nothing, nor does one of no processes. A starting one is active once all its
    processes run, since Circus does not wait until they are ready.
    """
    running = sum(each["state"] in ("spawning", "ready") and not each.get("zygote") for each in view["processes"])
    if view["state"] == "starting" and running >= view["numprocesses"]:
        return "active"
    is_empty = view["state"] == "active" and not view["numprocesses"] and not view["processes"]
    return "stopped" if is_empty or view["state"] in ("fatal", "waiting") else str(view["state"])


async def _numwatchers(service: CircusService, _request: CircusRequest) -> Answer:
    return {"numwatchers": await service.client.call("numwatchers") + await statswatcher.is_shown(service)}


async def _numprocesses(service: CircusService, request: CircusRequest) -> Answer:
    name = string_of(request, "name")
    if await statswatcher.is_meant(service, name):
        return {"numprocesses": 1, "watcher_name": name}
    count = sum(len(listed(each)) for each in await service.views(name))
    if name is not None:
        return {"numprocesses": count, "watcher_name": name}
    return {"numprocesses": count + await statswatcher.is_shown(service)}


async def _listsockets(service: CircusService, _request: CircusRequest) -> Answer:
    return {"sockets": sockets_of(await service.client.call("listsockets"))}


def sockets_of(reports: list[Mapping[str, Any]]) -> list[Answer]:
    """Return sockets in Circus's format."""
    return [_socket(each, _FIRST_SOCKET + number) for number, each in enumerate(reports)]


def _socket(report: Mapping[str, Any], number: int) -> Answer:
    found = {"fd": number, "name": report["name"], "backlog": report["backlog"]}
    if report["family"] == "AF_UNIX":
        return {**found, "path": report["address"].removeprefix("unix:")}
    host, _, port = report["address"].rpartition(":")
    return {**found, "host": host.strip("[]"), "port": int(port)}


async def _globaloptions(service: CircusService, request: CircusRequest) -> Answer:
    option = string_of(request, "option")
    if option and option not in _GLOBAL:
        raise MessageRefused(f"{option!r} not an existing option")
    known = {"multicast_endpoint": "", **await service.client.call("globaloptions")}
    return {"options": {name: known.get(name) for name in ((option,) if option else _GLOBAL)}}


async def _options(service: CircusService, request: CircusRequest) -> Answer:
    return {"options": watcher_options(await service.client.call("options", watcher=name_of(request)), service.folder)}


async def _get(service: CircusService, request: CircusRequest) -> Answer:
    name = name_of(request)
    required(request, "keys")
    keys = request.properties["keys"]
    if not isinstance(keys, list):
        raise MessageRefused("'keys' property should be a list")
    ours = await service.client.call("options", watcher=name)
    known = {**ours, **watcher_options(ours, service.folder)}
    for key in keys:
        if not isinstance(key, str) or key not in known:
            raise MessageRefused(f"{key!r} option not found")
    return {"options": {key: known[key] for key in keys}}


async def _stats(service: CircusService, request: CircusRequest) -> Answer:
    name, pid = string_of(request, "name"), integer_of(request, "process")
    extended = bool(request.properties.get("extended"))
    if name is None:
        views = await service.client.call("stats", extended=extended)
        more = {statswatcher.NAME: await statswatcher.infos(service)} if await statswatcher.is_shown(service) else {}
        return {"infos": {view["name"]: _infos(service, view) for view in views} | more}
    if pid is None and await statswatcher.is_meant(service, name):
        return {"name": name, "info": await statswatcher.infos(service)}
    try:
        (view,) = await service.client.call("stats", watcher=name, pid=pid, extended=extended)
    except ControlError as error:
        if error.code == "no-such-process":
            raise MessageRefused(f"process {pid} not found in {name!r}") from None
        raise
    infos = _infos(service, view)
    return {"name": name, "info": infos} if pid is None else {"process": pid, "info": infos[str(pid)]}


def _infos(service: CircusService, view: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(process["pid"]): _extended(info_of(process.get("usage"), service.memory, process=process), process)
        for process in view["processes"]
        if process["pid"]
    }


def _extended(info: Any, process: Mapping[str, Any]) -> Any:
    """Return the figures of a process with the additions of the hook extended_stats."""
    return {**info, **(process.get("extended") or {})} if isinstance(info, dict) else info


async def _dstats(service: CircusService, _request: CircusRequest) -> Answer:
    master, *_ = await service.client.call("dstats")
    return {"info": info_of(master, service.memory)}


async def _ipython(_desk: CircusService, _request: CircusRequest) -> Answer:
    return {"shell": False, "msg": "forkserve runs no code of others in its process"}


async def _listen(_desk: CircusService, _request: CircusRequest) -> Answer:
    raise MessageRefused("listen is for the pubsub_endpoint, not for this one")


QUESTIONS: Mapping[str, Callable[[CircusService, CircusRequest], Awaitable[Answer]]] = {
    "dstats": _dstats,
    "get": _get,
    "globaloptions": _globaloptions,
    "ipython": _ipython,
    "list": _list,
    "listen": _listen,
    "listsockets": _listsockets,
    "numprocesses": _numprocesses,
    "numwatchers": _numwatchers,
    "options": _options,
    "stats": _stats,
    "status": _status,
}
