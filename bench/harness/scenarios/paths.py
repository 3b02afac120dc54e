"""Ways to the application: behind nginx, by WebSocket, under other supervisors."""

from __future__ import annotations

from collections.abc import Iterable

from bench.harness import procs, websocket
from bench.harness.clients import Plan
from bench.harness.context import Bench
from bench.harness.model import Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Request
from bench.harness.scenarios.base import Scenario, Timed
from bench.harness.scenarios.groups import ASGI, CHOSEN, WSGI
from bench.harness.scenarios.throughput import RATES, Throughput, Work, sample_of
from bench.harness.servers import Can, named

__all__ = ["BehindNginx", "Overhead", "WebSocketEcho"]


class BehindNginx(Scenario):
    """nginx in front, as most deployments have it."""

    name = "behind-nginx"
    title = "Behind nginx"
    question = (
        "How fast is the server behind a proxy that keeps its connections to it, over TCP and over a unix socket? "
        "nginx shares the server's cores."
    )
    metrics = RATES
    baseline = "gunicorn-gthread"
    servers = (*WSGI, *ASGI)
    short_servers = CHOSEN
    in_short = False

    def variants(self, settings: Settings) -> Iterable[str]:
        """Both kinds of socket."""
        return ("TCP", "unix socket")

    def takes_part(self, server: str, variant: str) -> bool:
        """Not every server listens on a unix socket."""
        return variant == "TCP" or Can.UNIX in named(server).can

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """As any timed run, with a second server to start."""
        return settings.duration * 1.25 + 1.7

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Time one server through nginx."""
        inner = bench.launch(f"plain:hello_{named(cell.server).interface}", unix=cell.variant != "TCP")
        with bench.ready(cell.server, inner, Request()) as running:
            upstream = f"unix:{inner.unix}" if inner.unix else f"127.0.0.1:{inner.port}"
            outer = bench.launch(upstream)
            with bench.ready("nginx-proxy", outer, Request()):
                checked = bench.verify(outer, Plan(Request(), 64))
                before = procs.usage(running.pid).cpu
                result = bench.load(outer, Request())
                cpu = procs.usage(running.pid).cpu - before
            return sample_of(result, cpu, checked, connections=64), running.command


class WebSocketEcho(Scenario):
    """Messages there and back."""

    name = "websocket"
    title = "WebSocket echo"
    question = (
        "How many messages a second are echoed over 32 WebSockets? The client is part of the harness and in Python: "
        "where it is the limit, compare server CPU."
    )
    metrics = (
        Metric("rate", "messages", "/s"),
        Metric("cpu_us", "server CPU", "us/message", Better.LOWER, 1),
        Metric("client_cpu", "client CPU", "cores", Better.NEITHER, 2),
    )
    baseline = "uvicorn"
    servers = ("forkserve-asgi", "gunicorn-asgi", "uvicorn", "granian-asgi", "hypercorn")
    in_short = False

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, load, stop."""
        return settings.duration + 1.5

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Time one server once."""
        launch = bench.launch("plain:socket_asgi")
        with bench.ready(cell.server, launch, Request()) as running:
            websocket.run(launch.port, clients=4, seconds=0.3, cores=bench.pins.client)
            before = procs.usage(running.pid).cpu
            result = websocket.run(
                launch.port, clients=32, seconds=float(bench.settings.duration), cores=bench.pins.client
            )
            cpu = procs.usage(running.pid).cpu - before
            values = {"rate": result.rate, "client_cpu": result.client_cpu}
            if result.messages:
                values["cpu_us"] = cpu / result.messages * 1e6
            return Sample(values, result.errors), running.command


class Overhead(Throughput):
    """The same worker under four supervisors."""

    name = "overhead"
    title = "Supervision overhead"
    question = (
        "Does supervision cost the request path anything? The same forkserve-worker runs by itself, and on a socket "
        "that it inherits; the ratio must be 1.0 within noise."
    )
    reading = "A supervisor in the path of a request cannot reach 1.0; one that only passes a socket on should."
    baseline = "worker-bare"
    servers = ("worker-bare", "worker-forkserve", "worker-circusd", "worker-supervisord")
    works = {"": Work({"supervised": "plain:hello_wsgi"})}
