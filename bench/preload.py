"""What preloading saves: memory of four workers, the time to the first answers, and that of a respawn.

    python -m bench.preload [--requests N] [--kills N] [APPLICATION]

Runs forkserve with four workers of an application (bench/apps/realistic.py) in three ways: each worker imports for
itself, a zygote forks them, and a warmed worker becomes the zygote. PSS is summed over all processes (proc(5)).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
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


def measure(way: str, requests: int, kills: int, application: str) -> str:
    """Return a line of the table."""
    with running(WAYS[way], application) as server:
        imported = server.line(r": imported .* in ([\d.]+) s")[1] if WAYS[way] else "-"
        then = time.monotonic()
        pids = [int(server.line(r"web\[\d\] pid (\d+) is ready")[1]) for _ in range(WORKERS)]
        answered: dict[int, float] = {}
        while len(answered) < WORKERS:
            answered.setdefault(server.ask(), time.monotonic() - server.begun)
        for _ in range(requests):
            server.ask()
        if way == "refork":
            server.line("keeps its zygote|zygote is pid")
            for _ in range(requests):
                server.ask()
        pss = server.pss()
        times = [_respawn(server, pids) for _ in range(kills)] if way == "preload" else []
        last = max(answered.values())
        after = f"{1000 * (last + server.begun - then):.0f}" if WAYS[way] else "-"
        return f"| {way} | {pss:.0f} | {imported} | {last:.2f} | {after} | {_summary(times)} |"


def _summary(times: list[float]) -> str:
    if len(times) < 2:
        return "-"
    figures = (statistics.median(times), statistics.quantiles(times, n=100, method="inclusive")[98], max(times))
    return " / ".join(f"{1000 * each:.1f}" for each in figures)


def _respawn(server: Running, pids: list[int]) -> float:
    """Kill a worker; return the seconds until its successor has said READY=1 and the master has written so."""
    begun = time.monotonic()
    os.kill(pids.pop(0), signal.SIGKILL)
    pids.append(int(server.line(r"web\[\d\] pid (\d+) is ready")[1]))
    return time.monotonic() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What preloading saves.")
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("application", nargs="?", default="realistic:wsgi")
    given = parser.parse_args()
    print(
        "| way | PSS of all, MiB | import, s | first answers of all, s | after the import, ms | "
        "respawn, ms: median / p99 / worst |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for way in WAYS:
        print(measure(way, given.requests, given.kills, given.application), flush=True)


if __name__ == "__main__":
    main()
