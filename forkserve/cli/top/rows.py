"""From two reports of a master to what `top` shows: figures of the whole, and a row for each process.

Rules: pure. A report is the answer to the verb `top` as plain data, its text already printable. What a single report
cannot tell, such as a rate, is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["SORTS", "Row", "Summary", "View", "quantile", "view_of"]

TopReport = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A watcher, one of its processes, or a slot that should have one (pid None).

    `key` identifies it in the next view, `target` is its name for verbs. Sizes in bytes, `cpu` in percent of one core,
    `rate` in requests a second, `age` in seconds.
    """

    key: tuple[str, int]
    target: str
    watcher: str
    is_watcher: bool = False
    state: str = ""
    pid: int | None = None
    generation: str = ""
    connections: int | None = None
    in_flight: int | None = None
    rate: float | None = None
    cpu: float | None = None
    memory: int | None = None
    pss: int | None = None
    age: float | None = None
    restarts: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The whole: `rate` in requests a second, `p50` and `p99` in seconds, `errors` the share of 5xx from 0 to 1."""

    version: str
    name: str
    source: str
    pid: int
    uptime: float
    rate: float | None = None
    p50: float | None = None
    p99: float | None = None
    errors: float | None = None
    in_flight: int = 0
    waiting: int = 0
    capacity: int = 0
    pss: int | None = None
    memory: int = 0
    deploy: str = ""
    deploy_age: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a page shows."""

    summary: Summary
    rows: tuple[Row, ...]


def _descending(value: Callable[[Row], float | None]) -> Callable[[Row], float]:
    return lambda row: -(value(row) or 0)


SORTS: Mapping[str, Callable[[Row], float] | None] = {
    "name": None,
    "cpu": _descending(lambda row: row.cpu),
    "memory": _descending(lambda row: row.pss or row.memory),
    "requests": _descending(lambda row: row.rate),
    "connections": _descending(lambda row: row.connections),
    "age": _descending(lambda row: row.age),
    "restarts": _descending(lambda row: row.restarts),
}
"""Sort orders of rows, and the key; None keeps the order of the configuration."""


def view_of(now: TopReport, before: TopReport | None, *, pss: Mapping[int, int], sort: str, wall: float) -> View:
    """Return the view of two reports, or of a single one.

    `pss` has sizes by pid that were measured before, for a report without them; `wall` is the time in seconds since
    1970, for the age of the last deploy.
    """
    seconds = None if before is None else now["at"] - before["at"]
    if before is None or seconds is None or seconds <= 0 or before["pid"] != now["pid"]:
        before, seconds = None, None
    then = {each["name"]: each for each in before["traffic"]} if before else {}
    traffic = {each["name"]: each for each in now["traffic"]}
    groups = [
        _rows_of(each, traffic.get(each["name"]), _Span(then.get(each["name"]), seconds), pss)
        for each in now["watchers"]
    ]
    key = SORTS[sort]
    if key is not None:
        groups = [[group[0], *sorted(group[1:], key=key)] for group in groups]
        groups.sort(key=lambda group: key(group[0]))
    rows = tuple(row for group in groups for row in group)
    return View(_summary(now, traffic, then, seconds, rows, wall), rows)


@dataclass(frozen=True, slots=True)
class _Span:
    """The traffic of a watcher at an earlier instant, and the seconds since."""

    then: Mapping[str, Any] | None
    seconds: float | None

    def rate(self, now: int, before: int | None) -> float | None:
        if self.seconds is None or before is None or now < before:  # the master or the process is another one
            return None
        return (now - before) / self.seconds


def _rows_of(watcher: Any, traffic: Any, span: _Span, pss: Mapping[int, int]) -> list[Row]:
    known = {each["pid"]: each for each in traffic["processes"]} if traffic else {}
    before = {each["pid"]: each["requests"] for each in span.then["processes"]} if span.then else {}
    restarts = {int(wid): count for wid, count in traffic["slots"].items()} if traffic else {}
    reasons = {each["wid"]: each["reason"] for each in watcher["slots"]}
    rows = []
    for each in watcher["processes"]:
        seen = known.get(each["pid"])
        old = " old" if each["generation"] < watcher["generation"] else ""
        rows.append(
            Row(
                key=(watcher["name"], each["pid"]),
                target=str(each["pid"]) if each.get("zygote") else each["name"],
                watcher=watcher["name"],
                state=each["state"],
                pid=each["pid"],
                generation=f"{each['generation']}{old}",
                connections=seen["connections"] if seen else None,
                in_flight=seen["in_flight"] if seen else None,
                rate=span.rate(seen["requests"], before.get(each["pid"])) if seen else None,
                cpu=each.get("cpu"),
                memory=each.get("memory"),
                pss=each.get("pss") or pss.get(each["pid"]),
                age=each["uptime"],
                restarts=None if each.get("zygote") else restarts.get(each["wid"], 0),
                reason=each.get("status") or reasons.get(each["wid"], ""),
            )
        )
    rows += [_empty(watcher["name"], each, restarts) for each in watcher["slots"] if _is_missing(each)]
    return [_total(watcher, traffic, span, rows), *rows]


def _is_missing(slot: Any) -> bool:
    return slot["state"] in ("backoff", "fatal")


def _empty(watcher: str, slot: Any, restarts: Mapping[int, int]) -> Row:
    again = "" if slot["retry_in"] is None else f"; next try in {slot['retry_in']:.0f} s"
    return Row(
        key=(watcher, -slot["wid"]),
        target=slot.get("name") or f"{watcher}[{slot['wid']}]",
        watcher=watcher,
        state=slot["state"],
        restarts=restarts.get(slot["wid"], 0),
        reason=f"{slot['reason'] or 'no reason is known'}{again}",
    )


def _total(watcher: Any, traffic: Any, span: _Span, rows: Sequence[Row]) -> Row:
    running = [each for each in watcher["processes"] if not each.get("zygote")]
    ready = sum(each["state"] == "ready" for each in running)
    total = Row(
        key=(watcher["name"], 0),
        target=watcher["name"],
        watcher=watcher["name"],
        is_watcher=True,
        state=_state_of(watcher, ready),
        generation=str(watcher["generation"]),
        restarts=watcher["restarts"],
        reason=watcher.get("doing") or ("" if rows else watcher["reason"]),
    )
    if not rows:
        return total
    before = span.then["requests"] if span.then else None
    sizes = [row.pss for row in rows if row.pid is not None]
    return replace(
        total,
        connections=_sum(row.connections for row in rows),
        in_flight=_sum(row.in_flight for row in rows),
        rate=span.rate(traffic["requests"], before) if traffic and traffic["processes"] else None,
        cpu=_sum(row.cpu for row in rows),
        memory=_sum(row.memory for row in rows),
        pss=_sum(sizes) if sizes and all(size is not None for size in sizes) else None,
    )


def _state_of(watcher: Mapping[str, Any], ready: int) -> str:
    """Return the state of a timer: between its runs it is scheduled, as in `status`."""
    if watcher.get("timer"):
        return "scheduled" if watcher["state"] == "active" and not ready else str(watcher["state"])
    return f"{watcher['state']} {ready}/{watcher['numprocesses']}"


def _sum(values: Iterable[Any]) -> Any:
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _summary(
    now: TopReport,
    traffic: Mapping[str, Any],
    then: Mapping[str, Any],
    seconds: float | None,
    rows: Sequence[Row],
    wall: float,
) -> Summary:
    totals = [row for row in rows if row.is_watcher]
    running = [row for row in totals if row.memory is not None]
    pairs = [(each, then[name]) for name, each in traffic.items() if name in then]
    pairs = [(new, old) for new, old in pairs if new["requests"] >= old["requests"]]
    count = sum(new["requests"] - old["requests"] for new, old in pairs)
    errors = sum(max(0, new["errors"] - old["errors"]) for new, old in pairs)
    buckets = [sum(each) for each in zip(*(_rise(new, old) for new, old in pairs), strict=True)]
    queues = [each for each in now["queues"] if each["waiting"] is not None]
    doing = next((f"{each['name']}: {each['doing']}" for each in now["watchers"] if each.get("doing")), "")
    return Summary(
        version=now["version"],
        name=now["name"],
        source=now["source"],
        pid=now["pid"],
        uptime=now["uptime"],
        rate=None if seconds is None else count / seconds,
        p50=quantile(buckets, now["bounds"], 0.5),
        p99=quantile(buckets, now["bounds"], 0.99),
        errors=errors / count if count else None,
        in_flight=_sum(row.in_flight for row in totals) or 0,
        waiting=sum(each["waiting"] for each in queues),
        capacity=sum(each["capacity"] or 0 for each in queues),
        pss=_sum(row.pss for row in running) if running and all(row.pss is not None for row in running) else None,
        memory=_sum(row.memory for row in running) or 0,
        deploy=doing or now["deploy"],
        deploy_age=None if doing or now["deploy_at"] is None else max(0.0, wall - now["deploy_at"]),
    )


def _rise(new: Any, old: Any) -> list[int]:
    return [max(0, more - less) for more, less in zip(new["latency"], old["latency"], strict=True)]


def quantile(counts: Sequence[int], bounds: Sequence[float], part: float) -> float | None:
    """Return the seconds within which this share of the requests was answered; None without requests.

    Within a bucket they are assumed to be spread evenly; for the last one only its lower bound is known.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, reached = part * total, 0
    for number, count in enumerate(counts):
        if count and reached + count >= wanted:
            low = bounds[number - 1] if number else 0.0
            high = bounds[number] if number < len(bounds) else low
            return low + (high - low) * (wanted - reached) / count
        reached += count
    return bounds[-1]
