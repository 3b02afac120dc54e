"""Circus's commands, each by verbs of the control interface.

Rules: a command returns the fields of its answer, or raises MessageRefused. Numbers are taken as text as well, since
circusctl sends some so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from forkserve.control.asyncclient import AsyncControlClient
from forkserve.control.matching import matching
from forkserve.errors import ControlError, UsageError
from forkserve.sidecars.circus.protocol import CircusRequest, Errno, MessageRefused

__all__ = ["CircusCommands"]

Answer = dict[str, Any]


class CircusCommands:
    """The commands over one master."""

    def __init__(self, client: AsyncControlClient, ending: asyncio.Event) -> None:
        """`ending` is set when all watchers have stopped."""
        self._client = client
        self._ending = ending
        self._table: Mapping[str, Callable[[CircusRequest], Awaitable[Answer]]] = {
            "list": self._list,
            "status": self._status,
            "numwatchers": self._numwatchers,
            "numprocesses": self._numprocesses,
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "reload": self._reload,
            "reloadconfig": self._reloadconfig,
            "incr": self._incr,
            "decr": self._decr,
            "quit": self._quit,
        }

    async def dispatch(self, request: CircusRequest) -> Answer:
        """Carry out a request; raises MessageRefused."""
        command = self._table.get(request.command)
        if command is None:
            raise MessageRefused(f"unknown command: {request.command!r}", Errno.UNKNOWN_COMMAND)
        try:
            return await command(request)
        except ControlError as error:
            if error.code == "no-such-watcher":
                raise MessageRefused(f"program {request.properties.get('name')} not found") from None
            raise MessageRefused(str(error), Errno.COMMAND_ERROR) from None

    # What is there.

    async def _views(self, name: str | None = None) -> list[Any]:
        views: list[Any] = await self._client.call("status", watcher=name)
        return views

    async def _list(self, request: CircusRequest) -> Answer:
        name = _name(request, required=False)
        if name is None:
            return {"watchers": sorted(each.lower() for each in await self._client.call("list"))}
        return {"pids": await self._pids(name)}

    async def _pids(self, name: str) -> list[int]:
        (view,) = await self._views(name)
        return [each["pid"] for each in view["processes"] if each["pid"]]

    async def _status(self, request: CircusRequest) -> Answer:
        name = _name(request, required=False)
        views = await self._views(name)
        if name is not None:
            return {"status": _state(views[0])}
        return {"statuses": {each["name"]: _state(each) for each in views}}

    async def _numwatchers(self, _request: CircusRequest) -> Answer:
        return {"numwatchers": len(await self._client.call("list"))}

    async def _numprocesses(self, request: CircusRequest) -> Answer:
        name = _name(request, required=False)
        count = sum(len(each["processes"]) for each in await self._views(name))
        return {"numprocesses": count} if name is None else {"numprocesses": count, "watcher_name": name}

    # What makes them run.

    async def _meant(self, request: CircusRequest) -> list[str] | None:
        """Return the watchers that a request names by a pattern, None for all."""
        name = _name(request, required=False)
        if name is None:
            return None
        try:
            meant = matching(await self._client.call("list"), name, str(request.properties.get("match") or "glob"))
        except UsageError as error:
            raise MessageRefused(str(error)) from None
        if not meant:
            raise MessageRefused(f"program {name} not found")
        return meant

    async def _run(self, verb: str, request: CircusRequest, info: Callable[[list[int], list[int]], Any]) -> Answer:
        meant = await self._meant(request)
        one = meant[0] if meant is not None and len(meant) == 1 and request.waiting else None
        before = await self._pids(one) if one is not None else []
        await self._client.call(verb, request.on_begun, watchers=meant, waiting=request.waiting)
        return {} if one is None else {"info": info(before, await self._pids(one))}

    async def _start(self, request: CircusRequest) -> Answer:
        return await self._run("start", request, _changes)

    async def _stop(self, request: CircusRequest) -> Answer:
        return await self._run("stop", request, lambda _before, _after: None)

    async def _restart(self, request: CircusRequest) -> Answer:
        return await self._run("restart", request, lambda old, new: {"stopped": old, **_changes(old, new)})

    async def _reload(self, request: CircusRequest) -> Answer:
        name = _name(request, required=False)
        waits = name is not None and request.waiting
        before = await self._pids(name) if name is not None and waits else []
        verb = "reload" if request.properties.get("graceful", True) else "restart"
        await self._client.call(verb, request.on_begun, watcher=name, waiting=request.waiting)
        if name is None or not waits:
            return {}
        after = await self._pids(name)
        return {"info": {"stopped": [each for each in before if each not in after], **_changes(before, after)}}

    async def _reloadconfig(self, request: CircusRequest) -> Answer:
        await self._client.call("reloadconfig", request.on_begun, waiting=request.waiting)
        return {}

    async def _quit(self, request: CircusRequest) -> Answer:
        # the master answers last of all, when this program has ended
        await self._client.call("quit", waiting=False)
        if request.waiting:
            await self._ending.wait()
        return {}

    async def _incr(self, request: CircusRequest) -> Answer:
        return await self._resize("incr", request)

    async def _decr(self, request: CircusRequest) -> Answer:
        return await self._resize("decr", request)

    async def _resize(self, verb: str, request: CircusRequest) -> Answer:
        name = _name(request)
        try:
            await self._client.call(
                verb, request.on_begun, watcher=name, count=_integer(request, "nb", default=1), waiting=request.waiting
            )
        except ControlError as error:
            if error.code != "singleton":
                raise
            (view,) = await self._views(name)
            return {"numprocesses": view["numprocesses"], "singleton": True}
        if not request.waiting:
            return {}
        (view,) = await self._views(name)
        return {"numprocesses": view["numprocesses"]}


def _name(request: CircusRequest, *, required: bool = True) -> str | None:
    name = request.properties.get("name")
    if name is None and not required:
        return None
    if name is None:
        raise MessageRefused("message invalid 'name' is missing")
    if not isinstance(name, str):
        raise MessageRefused("message invalid: 'name' should be a string")
    return name


def _integer(request: CircusRequest, key: str, *, default: int) -> int:
    value = request.properties.get(key, default)
    try:
        return int(str(value))
    except ValueError:
        raise MessageRefused(f"{key!r} isn't an integer") from None


def _state(view: Any) -> str:
    """Return a state in Circus's words: what has given up is one that runs nothing."""
    return "stopped" if view["state"] == "fatal" else str(view["state"])


def _changes(before: list[int], after: list[int]) -> Answer:
    return {
        "started": [each for each in after if each not in before],
        "kept": [each for each in after if each in before],
    }
