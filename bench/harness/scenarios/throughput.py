"""How many requests a second: wrk against one server at a time, each verified under load right before it is timed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bench.harness import procs, wrk
from bench.harness.clients import Plan
from bench.harness.context import Bench, Checked
from bench.harness.goals import CLIENT_AT_LIMIT
from bench.harness.model import Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Request
from bench.harness.scenarios.base import Scenario, Timed
from bench.harness.servers import Can, named

__all__ = ["RATES", "Throughput", "Work", "sample_of"]

RATES = (
    Metric("rate", "requests", "/s"),
    Metric("cpu_us", "server CPU", "us/request", Better.LOWER, 1),
    Metric("p50_ms", "median", "ms", Better.LOWER, 2),
    Metric("p99_ms", "p99", "ms", Better.LOWER, 2),
    Metric("client_cpu", "client CPU", "cores", Better.NEITHER, 2),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What one variant serves and sends.

    `apps` maps an interface to an application; who lacks it does not take part. `patience` is how many
    seconds an answer may take, `lengthen` how many times longer than others it is timed.
    """

    apps: Mapping[str, str]
    request: Request = field(default_factory=Request)
    connections: int = 64
    workers: int = 1
    threads: int = 4
    fresh: bool = False
    patience: int = 5
    lengthen: int = 1
    needs: frozenset[Can] = frozenset()
    short: bool = True


def sample_of(result: wrk.Result, cpu: float, checked: Checked, *, connections: int) -> Sample:
    """Turn what wrk and verification found into a sample; answers of another length are an error like any other."""
    errors = dict(checked.errors)
    for kind, count in result.errors.items():
        errors[kind] = errors.get(kind, 0) + count
    # Answers that were under way at the end count in bytes and not in requests: one per connection at most.
    missing = result.requests * checked.least - result.received
    surplus = result.received - result.requests * checked.most
    astray = max(missing, surplus) - connections * checked.most
    if checked.most and astray > 0.01 * result.received:
        errors["answers of another length"] = round(astray / checked.most)
    values = {"rate": result.rate, "client_cpu": result.client_cpu}
    if result.requests:
        # Of no answers there is no time; a zero would be the best of all.
        times = {"p50_ms": result.p50 * 1e3, "p99_ms": result.p99 * 1e3}
        values |= {"cpu_us": cpu / result.requests * 1e6, **times}
    note = "the load generator was at its limit" if result.client_cpu > CLIENT_AT_LIMIT else ""
    return Sample(values, errors, note)


class Throughput(Scenario):
    """A family of variants that wrk can time. Subclasses say what."""

    metrics = RATES
    works: ClassVar[Mapping[str, Work]]

    def variants(self, settings: Settings) -> Iterable[str]:
        """Name the works; the short set leaves some out."""
        return [name for name, work in self.works.items() if work.short or settings.full]

    def takes_part(self, server: str, variant: str) -> bool:
        """Ask for the interface and for what the work needs."""
        work, row = self.works[variant], named(server)
        if row.interface == "limit":
            return "limit" in work.apps
        many = work.workers == 1 or Can.WORKERS in row.can
        return row.interface in work.apps and work.needs <= row.can and many

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, verify, time, stop."""
        return settings.duration * 1.25 + 0.6

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Time one server once."""
        work = self.works[cell.variant]
        app = work.apps[named(cell.server).interface]
        launch = bench.launch(app, workers=work.workers, threads=work.threads, connections=work.connections)
        with bench.ready(cell.server, launch, work.request) as running:
            clients = min(work.connections, 256)
            checked = bench.verify(launch, Plan(work.request, clients, fresh=work.fresh, timeout=work.patience))
            before = procs.usage(running.pid).cpu
            result = wrk.run(self._load(work, launch.port, bench), bench.pins.client_prefix())
            cpu = procs.usage(running.pid).cpu - before
            sample = sample_of(result, cpu, checked, connections=work.connections)
            return sample, running.command

    @staticmethod
    def _load(work: Work, port: int, bench: Bench) -> wrk.Load:
        plain = bench.wrk_load(port, work.request, connections=work.connections, fresh=work.fresh)
        return replace(plain, seconds=plain.seconds * work.lengthen, patience=work.patience)
