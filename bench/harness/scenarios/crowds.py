"""How a server treats its clients: spread over workers, stalled ones beside normal ones, ten thousand idle ones."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from collections import Counter
from collections.abc import Iterable

from bench.harness import procs
from bench.harness.clients import Crowd, Plan, errors_of, run_for
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Answer, Outcome, Request, complete, connect
from bench.harness.scenarios.base import Scenario, Timed
from bench.harness.scenarios.groups import OURS, PREFORK
from bench.harness.scenarios.prefork import ANY, Prefork
from bench.harness.servers import named
from bench.harness.stats import percentile
from bench.harness.target import Launch

__all__ = ["Fairness", "IdleConnections", "SlowClients", "spread"]


def spread(counts: Iterable[int], workers: int) -> tuple[float, float]:
    """Return highest minus lowest count and the number of workers that had none; workers that never appear count 0."""
    known = sorted(counts)
    known = [0] * (workers - len(known)) + known
    return float(known[-1] - known[0]), float(sum(count == 0 for count in known))


class Fairness(Prefork):
    """Connections and requests per worker."""

    name = "fairness"
    title = "Fairness between workers"
    question = (
        "32 keep-alive connections, 4 workers on all cores: does each worker get 8, or do some idle while others queue?"
    )
    reading = (
        "Workers share one listening socket, or the kernel distributes connections over a socket for each worker. "
        "Either way chance decides, unless the server does. Servers without keep-alive are judged by their requests."
    )
    metrics = (
        Metric("gap", "connections, most minus least", "", Better.LOWER),
        Metric("idle", "workers without any", "", Better.LOWER),
        Metric("request_share", "requests of the busiest / mean", "x", Better.LOWER, 2),
        Metric("p99_ms", "p99", "ms", Better.LOWER, 1),
    )

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, load, stop."""
        return settings.duration + 2.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Count who answered."""
        launch = self.launch(bench, cell.server, "plain:pid_{}", workers=4, pinned=False)
        requests: Counter[bytes] = Counter()
        first: dict[int, bytes] = {}

        def watch(answer: Answer) -> None:
            if answer.outcome is Outcome.OK:
                requests[answer.body] += 1
                first.setdefault(answer.client, answer.body)

        with bench.ready(cell.server, launch, ANY) as running:
            crowd = Crowd(launch, Plan(ANY, 32), watch)
            run_for(float(bench.settings.duration), crowd)
            if not requests:
                raise BenchError("nobody answered")
            gap, idle = spread(Counter(first.values()).values(), 4)
            share = max(requests.values()) / (sum(requests.values()) / 4)
            values = {
                "gap": gap,
                "idle": idle,
                "request_share": share,
                "p99_ms": percentile(crowd.latencies, 0.99) * 1e3,
            }
            note = "requests per worker: " + " ".join(str(count) for _, count in requests.most_common())
            return Sample(values, errors_of(crowd.outcomes.items()), note), running.command


STALLS = {
    "half a header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    "half a body": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n0123456789",
    "says nothing": b"",
}
NORMAL = Request(method="POST", body=b"a normal request", expect=b"a normal request")


def attack(launch: Launch, opening: bytes, count: int) -> list[socket.socket]:
    """Open connections that stop in the middle; those that cannot be opened are left out."""
    sockets: list[socket.socket] = []
    for _ in range(count):
        try:
            client = connect(launch, timeout=1.0)
        except OSError:
            break
        sockets.append(client)
        with contextlib.suppress(OSError):
            client.sendall(opening)
    return sockets


def closed(sockets: list[socket.socket]) -> int:
    """Count the connections that the server has answered or closed."""
    poll = select.poll()
    for client in sockets:
        poll.register(client, select.POLLIN | select.POLLHUP)
    return len(poll.poll(0))


class SlowClients(Prefork):
    """400 stalled connections beside four normal clients."""

    name = "slow-clients"
    title = "Slow clients"
    question = (
        "400 clients stop in the middle of a request (slowloris). How many of the normal requests beside them are "
        "answered in 2 s?"
    )
    reading = (
        "A server that gives each connection a thread or a process has none left for other clients. Behind a buffering "
        "proxy this matters less; on the open network it decides whether one laptop can take the site down."
    )
    metrics = (
        Metric("answered", "normal requests answered", "%"),
        Metric("rate", "of them per second", "/s"),
        Metric("p99_ms", "p99", "ms", Better.LOWER, 1),
        Metric("evicted", "stalled ones sent away meanwhile", "%", Better.HIGHER),
    )
    servers = (*PREFORK[:-1], "waitress")
    most_rounds = 1  # some are answered, or none are
    short_servers = (
        "forkserve-sync",
        "forkserve-threads",
        "gunicorn-sync",
        "gunicorn-gthread",
        "granian-wsgi",
        "uvicorn",
    )

    def variants(self, settings: Settings) -> Iterable[str]:
        """Half a header in the short set."""
        return STALLS if settings.full else ("half a header",)

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, stall, load; a blocked server makes clients wait for their 2 s."""
        return 5.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Stall, then ask normally."""
        launch = self.launch(bench, cell.server, "plain:echo_{}", workers=2)
        with bench.ready(cell.server, launch, NORMAL) as running:
            stalled = attack(launch, STALLS[cell.variant], 400)
            try:
                crowd = Crowd(launch, Plan(NORMAL, 4, fresh=True, timeout=2.0))
                start = time.monotonic()
                run_for(2.5, crowd)
                took = time.monotonic() - start
                gone = closed(stalled)
            finally:
                for client in stalled:
                    client.close()
            good, total = crowd.outcomes[Outcome.OK], sum(crowd.outcomes.values())
            values = {"answered": 100 * good / total, "rate": good / took, "evicted": 100 * gone / max(1, len(stalled))}
            if crowd.latencies:
                values["p99_ms"] = percentile(crowd.latencies, 0.99) * 1e3
            note = "" if len(stalled) == 400 else f"took only {len(stalled)} stalled connections"
            return Sample(values, errors_of(crowd.outcomes.items()), note), running.command


OPENING = 40.0  # seconds for opening them all; a server that looks at every connection in turn needs longer
KEEP = 75  # seconds; by default some servers close idle connections while the others are still being opened


class IdleConnections(Scenario):
    """What a kept connection costs that nothing happens on."""

    name = "idle-connections"
    title = "10,000 idle connections"
    question = (
        "How much memory does an idle keep-alive connection cost after one answer? Does the server still answer other "
        "clients?"
    )
    reading = (
        "The memory is that of the processes, without the kernel's for each socket. Servers that would close idle "
        "connections earlier are configured to keep them for 75 s."
    )
    metrics = (
        Metric("kb", "memory per connection", "kB", Better.LOWER, 2),
        Metric("held", "connections still open", ""),
        Metric("fresh_ms", "a new client's answer after", "ms", Better.LOWER, 1),
    )
    baseline = "gunicorn-gevent"
    servers = (
        *(*OURS, "gunicorn-gthread", "gunicorn-gevent", "gunicorn-asgi", "granian-wsgi", "granian-asgi", "uvicorn"),
        *("hypercorn", "waitress", "fastpysgi-wsgi"),
    )
    in_short = False
    most_rounds = 1  # memory hardly varies

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Opening ten thousand takes a while."""
        return 12.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Open them, ask once on each, weigh the server before and after."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = min(10_000, hard - 200)
        launch = bench.launch(f"plain:hello_{named(cell.server).interface}", connections=count, keep_alive=KEEP)
        with bench.ready(cell.server, launch, Request()) as running, contextlib.ExitStack() as stack:
            bench.verify(launch, Plan(Request(), 16), 0.5)
            before, _ = procs.memory(running.pid)
            held = [client for client in self._opened(launch, count) if stack.enter_context(client)]
            if not held:
                raise BenchError("no kept connection was answered")
            after, _ = procs.memory(running.pid)
            start = time.monotonic()
            crowd = Crowd(launch, Plan(Request(), 1, fresh=True, timeout=5.0), lambda _: crowd.stop())
            run_for(5.0, crowd)
            values = {"kb": (after - before) * 2**20 / 1000 / len(held), "held": float(len(held) - closed(held))}
            values["fresh_ms"] = (time.monotonic() - start) * 1e3
            note = "" if len(held) == count else f"took only {len(held):,} connections in {OPENING:.0f} s"
            return Sample(values, errors_of(crowd.outcomes.items()), note), running.command

    @staticmethod
    def _opened(launch: Launch, count: int) -> Iterable[socket.socket]:
        request, deadline = Request().encode(), time.monotonic() + OPENING
        for _ in range(count):
            if time.monotonic() > deadline:
                return
            try:
                client = connect(launch, timeout=2.0)
                client.sendall(request)
                answer = b""
                # The whole of it: what is left unread would look like an event on an idle connection.
                while not complete(answer):
                    block = client.recv(4096)
                    if not block:
                        return
                    answer += block
            except OSError:
                return
            yield client
