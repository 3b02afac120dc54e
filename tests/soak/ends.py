"""Stops and streams: what waits is answered, what lasts is closed properly, whatever signal comes when."""

from __future__ import annotations

import random
import select
import signal
from pathlib import Path

from forkserve.supervision.os.loop import LIMIT
from tests.soak.reloads import HELD, serves, stack, write
from tests.soak.row import Result, Scale
from tests.support.forkserving import running
from tests.support.load import Load
from tests.system.test_drain import address_of, answered, queued, streams_end_properly, workers
from tests.system.test_drain import stack as draining

__all__ = ["queues", "stops", "streams"]

MIXES = (("TERM",), ("QUIT",), ("TERM", "TERM"), ("QUIT", "TERM"), ("TERM", "QUIT", "QUIT"))


def queues(folder: Path, scale: Scale, variant: str) -> Result:
    """Fill the kernel's queue and end the stack; raises AssertionError."""
    count = 0
    for signum in (signal.SIGTERM, signal.SIGQUIT):
        with draining(folder, variant) as server:
            address = address_of(server)
            clients = queued(workers(server), address)
            server.send(signum)
            found = answered(clients)
            assert found == len(clients), f"{signum.name}: {found} of {len(clients)} answered"
            assert server.wait() == 0
        count += found
    return Result(count, 0, f"TERM and QUIT with {count // 2} waiting each")


def streams(folder: Path, scale: Scale, variant: str) -> Result:
    """Reload under streams and WebSockets; raises AssertionError."""
    seconds = scale.events / 10
    streams_end_properly(folder, events=scale.events, grace=seconds + 3)
    return Result(
        102, 0, f"100 WebSockets ended by 1012, a stream of {seconds:g} s whole, an endless one at its deadline"
    )


def stops(folder: Path, scale: Scale, variant: str) -> Result:
    """Start and end stacks, by one signal or some, at any moment under load; raises AssertionError."""
    chance, requests = random.Random(scale.stops), 0
    for number in range(scale.stops):
        backend, preload = variant.partition(" ")[0], bool(chance.random() < 0.3)
        write(folder, backend, number, 0.0)
        mix = MIXES[number % len(MIXES)]
        with running(cwd=folder, config=stack(backend, preload=preload), env={LIMIT: HELD}) as server:
            with Load(serves(server), pause=0.001) as load:
                select.select([], [], [], chance.random() * 0.1)
                for name in mix:
                    server.send(signal.Signals[f"SIG{name}"])
                    select.select([], [], [], chance.random() * 0.03)
                code = server.wait()
            assert code == 0, f"{' '.join(mix)}: exit code {code}"
            assert load.lost == [], f"{' '.join(mix)}: {len(load.lost)} requests lost: {load.lost[:3]}"
            requests += load.answered
    return Result(requests, 0, f"{scale.stops} stops by one signal to three")
