"""Why the start, or the last deploy, took its time: the chain of what had to end before the next could begin.

Theory of operation. Every event has its time. For a deploy the chain is what lies between two processes that became
ready: the wait until the second was started, and its start. For a start it leads back from the watcher that was ready
last to the one that it waited for (`after`), and so on to the start of the master.

Rules: pure; events as plain data in, text out. The parts of a chain add up to the whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forkserve.cli.tables import render
from forkserve.config.handover import Identity
from forkserve.wording import human_duration

__all__ = ["Link", "analysis", "deploy_chain", "start_chain"]

Event = Mapping[str, Any]
NEGLIGIBLE = 0.01
"""Shorter parts, in seconds, get no line."""
_ENDS = ("reload.done", "reload.failed")


@dataclass(frozen=True, slots=True)
class Link:
    """A part of a chain: what was waited for, from and to which instant, in seconds since 1970."""

    what: str
    begin: float
    end: float
    why: str = ""


def analysis(events: Sequence[Event], *, began_at: float, watcher: str | None = None, start: bool = False) -> str:
    """Return the analysis of the last deploy, of one watcher if named, or with `start` of the start.

    `began_at` is when the master began. Without a deploy it is the start.
    """
    begun = [each for each in events if each["kind"] == "reload.begun" and watcher in (None, each["watcher"])]
    if begun and not start:
        return _of_deploy(events, begun[-1])
    return _of_start(events, began_at, watcher)


def _of_deploy(events: Sequence[Event], begun: Event) -> str:
    name, links, end = begun["watcher"], deploy_chain(events, begun), _end_of(events, begun)
    if not links:
        return f"{name}: a deploy has just begun"
    took = human_duration(links[-1].end - begun["time"])
    when = _clock(begun["time"])
    head = f"{name}: the deploy of {when} took {took}" if end else f"{name}: the deploy of {when} goes on since {took}"
    said = f": {end['text'].partition(': ')[2] or end['text']}" if end else ""
    return f"{head}{said}\n\n{_table(links, begun['time'])}{_advice(links)}"


def _end_of(events: Sequence[Event], begun: Event) -> Event | None:
    of_it = (each for each in events if each["kind"] in _ENDS and each["watcher"] == begun["watcher"])
    return next((each for each in of_it if each["id"] > begun["id"]), None)


def deploy_chain(events: Sequence[Event], begun: Event) -> list[Link]:
    """Return the chain of a deploy up to its end, or up to the last event of its watcher."""
    end = _end_of(events, begun)
    mine = [each for each in events if each.get("watcher") == begun["watcher"] and each["id"] >= begun["id"]]
    mine = [each for each in mine if end is None or each["id"] <= end["id"]]
    started = {each["pid"]: each for each in mine if each["kind"] == "process.started"}
    links: list[Link] = []
    at = begun["time"]
    for each in mine:
        if each["kind"] == "process.ready" and each["pid"] in started:
            links += _steps(each, started[each["pid"]], at, mine)
            at = each["time"]
    last = (end or mine[-1])["time"]
    if last - at >= NEGLIGIBLE:
        links.append(Link("the rest", at, last, _meanwhile(mine, at, last)))
    return links


def _steps(ready: Event, started: Event, at: float, events: Iterable[Event]) -> list[Link]:
    """Return the wait for a process to be started, if there was one, and its start."""
    begin = max(at, started["time"])
    name = _named(ready)
    wait = (
        [Link(f"until {name} is started", at, begin, _meanwhile(events, at, begin))] if begin - at >= NEGLIGIBLE else []
    )
    return [*wait, Link(f"{name} starts", begin, ready["time"], _readiness(ready))]


def _named(event: Event) -> str:
    return str(Identity(event["watcher"], event["wid"], event.get("process", "")))


def _readiness(ready: Event) -> str:
    how = "until it was ready" if ready["said"] else "until ready_after was over: it says no READY=1"
    return f"pid {ready['pid']} {how}"


def _meanwhile(events: Iterable[Event], begin: float, end: float) -> str:
    """Return what explains a wait: a process that stopped, or was lost, in it."""
    lost = [
        each for each in events if each["kind"] in ("process.exited", "process.failed") and begin <= each["time"] <= end
    ]
    return str(lost[-1]["text"]) if lost else ""


@dataclass(frozen=True, slots=True)
class _Begun:
    """The first processes of a watcher: when the first was started, when all were ready, and which was last."""

    name: str
    begin: float
    ready: float
    last: Event


def _of_start(events: Sequence[Event], began_at: float, watcher: str | None) -> str:
    if not events or events[0]["id"] > 1:
        return "the events of the start are no longer kept; that of a deploy: analyze, after the next one"
    links = start_chain(events, began_at, watcher)
    if not links:
        return "nothing is ready yet" if watcher is None else f"{watcher}: nothing of it is ready yet"
    took = human_duration(links[-1].end - began_at)
    of = "" if watcher is None else f" of {watcher}"
    return f"the start{of} at {_clock(began_at)} took {took}\n\n{_table(links, began_at)}{_advice(links)}"


def start_chain(events: Sequence[Event], began_at: float, watcher: str | None = None) -> list[Link]:
    """Return the chain of the start, up to one watcher, or to the one that was ready last."""
    begun = {name: found for name in _names(events) if (found := _first(events, name)) is not None}
    awaited = {each["watcher"]: each["awaited"] for each in reversed(events) if each["kind"] == "watcher.awaits"}
    at = begun.get(watcher) if watcher else max(begun.values(), key=lambda each: each.ready, default=None)
    links: list[Link] = []
    seen: set[str] = set()
    while at is not None and at.name not in seen:
        seen.add(at.name)
        links.append(Link(f"{at.name} starts", at.begin, at.ready, _last_of(at)))
        before = [begun[each] for each in awaited.get(at.name, ()) if each in begun and begun[each].ready <= at.begin]
        earlier = max(before, key=lambda each: each.ready, default=None)
        since = began_at if earlier is None else earlier.ready
        why = "configuration, sockets" if earlier is None else f"{at.name} comes after {earlier.name}"
        links.append(Link(f"until {at.name} is started", min(since, at.begin), at.begin, why))
        at = earlier
    return links[::-1]


def _names(events: Iterable[Event]) -> list[str]:
    return list(dict.fromkeys(each["watcher"] for each in events if each["kind"] == "process.started"))


def _first(events: Sequence[Event], name: str) -> _Begun | None:
    """Return the first processes of a watcher, those started before it counted as started."""
    mine = [each for each in events if each.get("watcher") == name]
    done = next((each["id"] for each in mine if each["kind"] == "watcher.started"), None)
    wids = {
        each["wid"]: each
        for each in reversed(mine)
        if each["kind"] == "process.started" and (not done or each["id"] < done)
    }
    ready = {each["wid"]: each for each in reversed(mine) if each["kind"] == "process.ready" and each["wid"] in wids}
    if not ready:
        return None
    last = max(ready.values(), key=lambda each: each["time"])
    return _Begun(name, min(each["time"] for each in wids.values()), last["time"], last)


def _last_of(begun: _Begun) -> str:
    return f"{_named(begun.last)} {_readiness(begun.last)}"


def _table(links: Sequence[Link], origin: float) -> str:
    whole = max(links[-1].end - origin, 1e-9)
    rows = [
        [
            f"@{each.begin - origin:.2f} s",
            f"+{each.end - each.begin:.2f} s",
            f"{100 * (each.end - each.begin) / whole:.0f}%",
            each.what,
            each.why,
        ]
        for each in links
    ]
    return render(["AT", "TOOK", "SHARE", "WHAT", "WHY"], rows, right={0, 1, 2})


def _advice(links: Sequence[Link]) -> str:
    """Return what can be done about the longest part."""
    whole = sum(each.end - each.begin for each in links)
    starts = [each for each in links if each.what.endswith(" starts")]
    spent = sum(each.end - each.begin for each in starts)
    if spent < 0.5 * whole or whole < 1.0:
        return ""
    silent = [each for each in starts if "no READY=1" in each.why]
    if sum(each.end - each.begin for each in silent) > 0.5 * spent:
        cure = "a program that says READY=1, or a probe (ready = ...), counts sooner; ready_after is the wait without"
    else:
        cure = "preload = True imports an application once for all; max_surge replaces several at a time"
    return f"\n\nstarts of processes took {100 * spent / whole:.0f}%: {cure}"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
