"""All metrics of one master: families made from its views, totals and samples.

Names and labels of HTTP are OpenTelemetry's (semantic conventions for HTTP metrics), in Prometheus's spelling; without
the path, which clients choose. Everything else is `forkserve_*`. Each family is declared once, in `FAMILIES`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from forkserve.supervision.lifecycle import ProcessState, SlotState
from forkserve.supervision.metrics.exposition import FamilyKind, MetricFamily, histogram_samples
from forkserve.supervision.metrics.observatory import Observatory
from forkserve.supervision.os.usage import resident
from forkserve.supervision.snapshot import WatcherView
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.views import view_of
from forkserve.supervision.watcher import Watcher

__all__ = ["FAMILIES", "MasterFacts", "families"]

COUNTER, GAUGE, HISTOGRAM = FamilyKind.COUNTER, FamilyKind.GAUGE, FamilyKind.HISTOGRAM

FAMILIES: Mapping[str, tuple[FamilyKind, str]] = {
    "http_server_request_duration_seconds": (HISTOGRAM, "Duration of HTTP requests, from the head to the last byte."),
    "http_server_active_requests": (GAUGE, "HTTP requests in flight."),
    "forkserve_active_requests_max": (GAUGE, "Most requests in flight since the last scrape."),
    "forkserve_requests_shed": (COUNTER, "Connections refused because they had waited in the queue for too long."),
    "forkserve_requests_refused": (COUNTER, "Requests that the server rejected: invalid, too large, too late."),
    "forkserve_busy_ratio": (GAUGE, "Mean share of the workers' capacity in use since the last scrape, from 0 to 1."),
    "forkserve_queue_depth": (GAUGE, "Connections that wait to be accepted."),
    "forkserve_queue_depth_max": (GAUGE, "Most connections that waited to be accepted since the last scrape."),
    "forkserve_queue_capacity": (GAUGE, "Connections that can wait to be accepted."),
    "forkserve_queue_oldest_seconds": (GAUGE, "Time for which the oldest connection in the queue has waited."),
    "forkserve_queue_oldest_max_seconds": (GAUGE, "Longest such time since the last scrape."),
    "forkserve_workers": (GAUGE, "Processes, and slots without one, by state."),
    "forkserve_workers_wanted": (GAUGE, "Processes that should run."),
    "forkserve_generation": (GAUGE, "Generation of the code; a reload increments it."),
    "forkserve_restarts": (COUNTER, "Processes lost or replaced, by reason."),
    "forkserve_scalings": (COUNTER, "Changes of the number of processes by load, by direction."),
    "forkserve_deploys": (COUNTER, "Reloads, by result."),
    "forkserve_timer_runs": (COUNTER, "Runs of a watcher with a schedule, by result."),
    "forkserve_timer_last_success_timestamp_seconds": (GAUGE, "When its last good run ended, since the epoch."),
    "forkserve_timer_last_duration_seconds": (GAUGE, "How long its last run took."),
    "forkserve_pss_bytes": (GAUGE, "Proportional set size of all processes of a watcher, measured every ten seconds."),
    "forkserve_rss_bytes": (GAUGE, "Resident set size of all processes of a watcher; shared memory counts for each."),
    "forkserve_readings_ignored": (COUNTER, "Implausible readings of workers' counters, which were dropped."),
    "forkserve_loop_lag_seconds": (GAUGE, "How late the master's loop ran its own timer."),
    "forkserve_loop_lag_max_seconds": (GAUGE, "The most of that since the last scrape."),
    "forkserve_ready": (GAUGE, "1 while /readyz answers 200, else 0."),
    "forkserve_start_time_seconds": (GAUGE, "When the master began, in seconds since the epoch."),
    "forkserve_build_info": (GAUGE, "1, with the version as a label."),
}
"""Kind and help by name; the samples of a counter have `_total` after its name."""

STATES = ("starting", "ready", "draining", "killing", "backoff", "fatal")
TIMER_RESULTS = ("good", "failed", "skipped", "missed")
_PROCESS_STATES = {
    ProcessState.REQUESTED: "starting",
    ProcessState.SPAWNING: "starting",
    ProcessState.READY: "ready",
    ProcessState.DRAINING: "draining",
    ProcessState.KILLING: "killing",
}
_SLOT_STATES = {SlotState.BACKOFF: "backoff", SlotState.FATAL: "fatal"}


@dataclass(frozen=True, slots=True)
class MasterFacts:
    """What only the master knows about itself; `started_at` in seconds since the epoch."""

    version: str
    name: str
    started_at: float
    is_ready: bool


def families(
    supervisor: Supervisor, observatory: Observatory, facts: MasterFacts, now: float
) -> Iterator[MetricFamily | None]:
    """Yield every family, and None between parts of the work, at which the caller may pause.

    Maxima and means restart with this reading.
    """
    made = {name: MetricFamily(name, kind, help) for name, (kind, help) in FAMILIES.items()}
    for _step in observatory.collect():
        yield None
    for watcher in supervisor.watchers:
        _add_requests(made, watcher)
        _add_samples(made, watcher, observatory)
        yield None
        _add_processes(made, view_of(watcher, now))
        _add_timer(made, watcher)
        yield None
        _add_memory(made, watcher, observatory.pss)
        yield None
    _add_queues(made, observatory)
    _add_master(made, observatory, facts)
    yield from made.values()


def _add_requests(made: Mapping[str, MetricFamily], watcher: Watcher) -> None:
    figures = watcher.processes.figures
    totals = figures.all()
    for name, histogram in sorted(totals.requests.items()):
        method, _, status = name.partition(" ")
        histogram_samples(
            made["http_server_request_duration_seconds"],
            histogram,
            watcher=watcher.name,
            http_request_method=method,
            http_response_status_code=status,
        )
    made["forkserve_requests_shed"].add(totals.shed, watcher=watcher.name)
    made["forkserve_requests_refused"].add(totals.refused, watcher=watcher.name)
    made["forkserve_readings_ignored"].add(figures.ignored, watcher=watcher.name)
    for reason, count in sorted(figures.restarts.items()):
        made["forkserve_restarts"].add(count, watcher=watcher.name, reason=reason)
    for direction, count in sorted(figures.scalings.items()):
        made["forkserve_scalings"].add(count, watcher=watcher.name, direction=direction)
    for result, count in sorted(figures.deploys.items()):
        made["forkserve_deploys"].add(count, watcher=watcher.name, result=result)


def _add_samples(made: Mapping[str, MetricFamily], watcher: Watcher, observatory: Observatory) -> None:
    if watcher.name not in observatory.watchers:
        return
    watch = observatory.watchers[watcher.name]
    made["http_server_active_requests"].add(watch.active.now, watcher=watcher.name)
    made["forkserve_active_requests_max"].add(watch.active.read(), watcher=watcher.name)
    made["forkserve_busy_ratio"].add(round(watch.busy.read(), 4), watcher=watcher.name)


def _add_processes(made: Mapping[str, MetricFamily], view: WatcherView) -> None:
    counts = dict.fromkeys(STATES, 0)
    for process in view.workers:
        if process.state in _PROCESS_STATES:
            counts[_PROCESS_STATES[process.state]] += 1
    for slot in view.slots:
        if slot.state in _SLOT_STATES:
            counts[_SLOT_STATES[slot.state]] += 1
    for state, count in counts.items():
        made["forkserve_workers"].add(count, watcher=view.name, state=state)
    wanted = view.numprocesses if view.timer is None else len(view.timer.running)
    made["forkserve_workers_wanted"].add(wanted, watcher=view.name)
    made["forkserve_generation"].add(view.generation, watcher=view.name)


def _add_timer(made: Mapping[str, MetricFamily], watcher: Watcher) -> None:
    state = watcher.timer.state
    for outcome in TIMER_RESULTS if watcher.timer.exists else ():
        made["forkserve_timer_runs"].add(state.counts.get(outcome, 0), watcher=watcher.name, result=outcome)
    if state.last_good is not None:
        made["forkserve_timer_last_success_timestamp_seconds"].add(round(state.last_good, 3), watcher=watcher.name)
    if state.results:
        made["forkserve_timer_last_duration_seconds"].add(round(state.results[-1].seconds, 3), watcher=watcher.name)


def _add_memory(made: Mapping[str, MetricFamily], watcher: Watcher, pss: Mapping[int, int]) -> None:
    pids = [process.pid for process in watcher.processes if process.is_alive]
    made["forkserve_rss_bytes"].add(_sum(resident(pid) for pid in pids), watcher=watcher.name)
    known = [pss[pid] for pid in pids if pid in pss]
    if known:
        made["forkserve_pss_bytes"].add(sum(known), watcher=watcher.name)


def _sum(values: Iterable[int | None]) -> int:
    return sum(value for value in values if value is not None)


def _add_queues(made: Mapping[str, MetricFamily], observatory: Observatory) -> None:
    for name, watch in observatory.queues.items():
        if watch.is_known:
            made["forkserve_queue_depth"].add(watch.depth.now, socket=name)
            made["forkserve_queue_depth_max"].add(watch.depth.read(), socket=name)
            made["forkserve_queue_capacity"].add(watch.bound, socket=name)
        if watch.knows_age:
            made["forkserve_queue_oldest_seconds"].add(watch.oldest.now, socket=name)
            made["forkserve_queue_oldest_max_seconds"].add(watch.oldest.read(), socket=name)


def _add_master(made: Mapping[str, MetricFamily], observatory: Observatory, facts: MasterFacts) -> None:
    if observatory.refused_configs:
        made["forkserve_deploys"].add(observatory.refused_configs, watcher="", result="refused")
    made["forkserve_loop_lag_seconds"].add(round(observatory.lag.now, 6))
    made["forkserve_loop_lag_max_seconds"].add(round(observatory.lag.read(), 6))
    made["forkserve_ready"].add(int(facts.is_ready))
    made["forkserve_start_time_seconds"].add(facts.started_at)
    python = ".".join(map(str, sys.version_info[:3]))
    made["forkserve_build_info"].add(1, version=facts.version, python=python, name=facts.name)
