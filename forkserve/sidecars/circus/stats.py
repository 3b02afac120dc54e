"""Circus's stats stream: once a second what each process, each watcher, the master and the sockets use.

Nothing is sampled without a subscriber.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from forkserve.errors import ControlError
from forkserve.sidecars.circus.figures import info_of
from forkserve.sidecars.circus.publishing import Publisher
from forkserve.sidecars.circus.questions import sockets_of
from forkserve.sidecars.circus.service import CircusService

__all__ = ["publish_stats"]

EACH = 1.0
"""Seconds between two rounds."""

Message = tuple[str, dict[str, Any]]

_NAMES = {"master": "circusd", "circus endpoint": "circusd-stats"}
"""Circus's name for the processes that belong to no watcher."""


async def publish_stats(service: CircusService, publisher: Publisher) -> None:
    """Publish round after round, until cancelled."""
    while True:
        if publisher.has_subscribers:
            with contextlib.suppress(ControlError):
                for topic, payload in await _round(service):
                    publisher.publish(topic, payload)
        await asyncio.sleep(EACH)


async def _round(service: CircusService) -> list[Message]:
    views = await service.client.call("stats")
    companions = await service.client.call("dstats")
    sockets = await service.client.call("listsockets")
    messages: list[Message] = []
    for view in views:
        usages = [(each["usage"], None) for each in view["processes"] if each.get("usage")]
        messages += _of_processes(view["name"].lower(), usages, service.memory)
    named = [(each, _NAMES[each["name"]]) for each in companions if each["name"] in _NAMES]
    messages += _of_processes("circus", named, service.memory)
    return [*messages, *_of_sockets(sockets)]


def _of_processes(name: str, usages: Iterable[tuple[Mapping[str, Any], str | None]], memory: int) -> Iterator[Message]:
    infos = []
    for usage, what in usages:
        info = {**info_of(usage, memory), "subtopic": usage["pid"], "name": what}
        infos.append(info)
        yield f"stat.{name}.{usage['pid']}", info
    yield (
        f"stat.{name}",
        {
            "pid": [each["pid"] for each in infos],
            "cpu": sum(each["cpu"] for each in infos) / len(infos) if infos else 0.0,
            "mem": sum(each["mem"] for each in infos),
            "age": max((each["age"] for each in infos), default="N/A"),
        },
    )


def _of_sockets(reports: list[Mapping[str, Any]]) -> Iterator[Message]:
    """Yield what waits at each socket: Circus counts how often it found one readable, which is an estimate of the
    same.
    """
    if not reports:
        return
    total: dict[str, Any] = {"addresses": [], "reads": 0}
    for report, found in zip(reports, sockets_of(reports), strict=True):
        address = found.get("path") or f"{found['host']}:{found['port']}"
        reads = report.get("queued") or 0
        total["addresses"].append(address)
        total["reads"] += reads
        yield f"stat.sockets.{found['fd']}", {**found, "subtopic": found["fd"], "address": address, "reads": reads}
    yield "stat.sockets", total
