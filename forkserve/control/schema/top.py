"""The question and the answer of `top`: everything that runs, and what it has counted up to one instant.

Rules: counts only rise while the process or the master lives; two reports give a rate.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from forkserve.control.schema.reports import WatcherReport

__all__ = ["TopReport", "ProcessTraffic", "QueueReport", "TopAsked", "WatcherTraffic"]


class TopAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the proportional set size is wanted as well, which takes milliseconds for each process."""

    pss: Annotated[bool, msgspec.Meta(description="measure PSS as well")] = False


class ProcessTraffic(msgspec.Struct, frozen=True):
    """One process that reports its connections (docs/scoreboard.md): open now, requests in flight, requests so far."""

    pid: int
    connections: int
    in_flight: int
    requests: int


class WatcherTraffic(msgspec.Struct, frozen=True):
    """What all processes of a watcher, including ended ones, have answered.

    `errors` are answers of 500 and more, `latency` counts by bucket of `TopReport.bounds`.
    """

    name: str
    requests: int
    errors: int
    latency: list[int]
    shed: int
    processes: list[ProcessTraffic]
    slots: dict[int, int]
    """Processes lost and replaced, by slot."""


class QueueReport(msgspec.Struct, frozen=True):
    """One listening socket: connections that wait to be accepted, and their limit; None if unknown."""

    name: str
    address: str
    waiting: int | None
    capacity: int | None


class TopReport(msgspec.Struct, frozen=True):
    """The master at one instant. `at` is in seconds of its monotonic clock, `uptime` in seconds.

    `deploy` is the result or the progress of the last reload, and `deploy_at` its time, in seconds since 1970.
    """

    at: float
    version: str
    name: str
    source: str
    pid: int
    uptime: float
    bounds: list[float]
    watchers: list[WatcherReport]
    traffic: list[WatcherTraffic]
    queues: list[QueueReport]
    deploy: str
    deploy_at: float | None
