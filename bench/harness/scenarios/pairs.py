"""Servers compared with themselves: with an access log, and under forkserve instead of by their own command."""

from __future__ import annotations

from bench.harness.scenarios.speed import HELLO
from bench.harness.scenarios.throughput import Throughput, Work
from bench.harness.servers import ADAPTED, LOGGED

__all__ = ["AccessLog", "Adapters"]


class _Pairs(Throughput):
    """Both halves of each pair, side by side in one table per interface."""

    in_short = False
    works = {
        "WSGI": Work({"wsgi": HELLO["wsgi"]}),
        "ASGI": Work({"asgi": HELLO["asgi"]}),
    }


class AccessLog(_Pairs):
    """The cost of writing a line for each request."""

    name = "access-log"
    title = "The cost of an access log"
    question = "How much of the rate is left when each request writes a line to a file, in the server's own format?"
    reading = "The ratio is to the same server without a log; `+log` is the same command with one."
    versus = LOGGED
    versus_label = "without log"
    servers = tuple(name for pair in LOGGED.items() for name in reversed(pair))


class Adapters(_Pairs):
    """Other people's servers as backends of forkserve."""

    name = "adapters"
    title = "Other servers as forkserve backends"
    question = (
        "What does it cost to run another server as a backend of forkserve, under its master, instead of by the "
        "server's own command? The ratio should be 1.0 within noise."
    )
    reading = (
        "The ratio is to the server's own command with as many threads. Where it is far from 1.0, the adapter does "
        "what the server does not; `forkserve-worker --list-backends` says what."
    )
    versus = ADAPTED
    versus_label = "own command"
    servers = tuple(name for name in dict.fromkeys(name for pair in ADAPTED.items() for name in reversed(pair)))
