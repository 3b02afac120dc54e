"""What preloading saves: memory of four workers, the time to the first answers, and that of a respawn.

    python -m bench.preload [--requests N] [--kills N] [--pause SECONDS] [APPLICATION]

Runs forkserve with four workers of an application (bench/apps/realistic.py) in three ways: each worker imports for
itself, a zygote forks them, and a warmed worker becomes the zygote. PSS is summed over all processes (proc(5)): master,
guard, zygote and spare too. A respawn is measured from the kill, and from the line in which the master says that the
worker has died; without a pause between two kills the next spare is still being forked.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

APPS = Path(__file__).parent / "apps"
WAYS = {"each imports": [], "preload": ["--preload"], "refork": ["--preload", "--refork-after", "100"]}
WORKERS = 4


class Running:
    """One forkserve and its log."""

    def __init__(self, flags: list[str], application: str) -> None:
        command = ["forkserve", "-w", str(WORKERS), "-b", "127.0.0.1:0", "--control", "none", *flags, application]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=APPS, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.port = int(self.line(r"listening at http://[\d.]+:(\d+)")[1])

    def line(self, pattern: str) -> re.Match[str]:
        """Return the next line that matches; raises RuntimeError at the end of the log."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(pattern, line):
                return found
        raise RuntimeError(f"forkserve has ended before it wrote {pattern!r}")

    def ask(self) -> int:
        """Return the pid that answers."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as client:
            client.request("GET", "/", headers={"Connection": "close"})
            return int(client.getresponse().read())

    def children(self) -> list[int]:
        """Return the pids of all processes below the master."""
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def pss(self) -> float:
        """Return the PSS of the master and all below it, in MiB."""
        sizes = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (self.process.pid, *self.children()))
        return sum(int(found[1]) for text in sizes if (found := re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE))) / 1024


@contextlib.contextmanager
def running(flags: list[str], application: str) -> Iterator[Running]:
    """Run it, and end it."""
    server = Running(flags, application)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=60)


def measure(way: str, given: argparse.Namespace) -> str:
    """Return a line of the table."""
    with running(WAYS[way], given.application) as server:
        imported = server.line(r": imported .* in ([\d.]+) s")[1] if WAYS[way] else "-"
        then = time.monotonic()
        pids = [int(server.line(r"web\[\d\] pid (\d+) is ready")[1]) for _ in range(WORKERS)]
        answered: dict[int, float] = {}
        while len(answered) < WORKERS:
            answered.setdefault(server.ask(), time.monotonic() - server.begun)
        for _ in range(given.requests):
            server.ask()
        if way == "refork":
            server.line("keeps its zygote|zygote is pid")
            for _ in range(given.requests):
                server.ask()
        pss = server.pss()
        kills = given.kills if way == "preload" else 0
        respawns = [_respawn(server, pids, given.pause) for _ in range(kills)]
        last = max(answered.values())
        after = f"{1000 * (last + server.begun - then):.0f}" if WAYS[way] else "-"
        figures = (way, f"{pss:.0f}", imported, f"{last:.2f}", after, _summary(respawns, 0), _summary(respawns, 1))
        return f"| {' | '.join(figures)} |"


def _summary(respawns: list[tuple[float, float]], which: int) -> str:
    times = [each[which] for each in respawns]
    if len(times) < 2:
        return "-"
    figures = (statistics.median(times), statistics.quantiles(times, n=100, method="inclusive")[98], max(times))
    return " / ".join(f"{1000 * each:.1f}" for each in figures)


def _respawn(server: Running, pids: list[int], pause: float) -> tuple[float, float]:
    """Kill a worker; return the seconds until its successor has said READY=1 and the master has written so, from the
    kill, and from the line about the death (in whole milliseconds).
    """
    select.select((), (), (), pause)
    begun = time.monotonic()
    os.kill(pids.pop(0), signal.SIGKILL)
    died = server.line(r"^([\d-]+ [\d:.]+) .*was ended by SIGKILL")
    ready = server.line(r"^([\d-]+ [\d:.]+) .*web\[\d\] pid (\d+) is ready")
    pids.append(int(ready[2]))
    between = datetime.fromisoformat(ready[1]) - datetime.fromisoformat(died[1])
    return time.monotonic() - begun, between.total_seconds()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What preloading saves.")
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two kills")
    parser.add_argument("application", nargs="?", default="realistic:wsgi")
    given = parser.parse_args()
    print(
        "| way | PSS of all, MiB | import, s | first answers of all, s | after the import, ms | "
        "respawn from the kill, ms: median / p99 / worst | from its notice |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way in WAYS:
        print(measure(way, given), flush=True)


if __name__ == "__main__":
    main()
