"""What a person sees while it runs.

One line that says where it is and how long it will take, and a line per finished measurement.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TextIO

from bench.harness.model import Measurement, Metric, Status
from bench.harness.rounds import Job

__all__ = ["Progress", "left", "line_of"]


def left(seconds: float) -> str:
    """Write a duration for people: "4 min 05 s"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def line_of(measurement: Measurement, metric: Metric) -> str:
    """Write one measurement as one line."""
    where = f"{measurement.scenario} {measurement.variant}".strip()
    if measurement.status is Status.FAILED:
        return f"{where}: {measurement.server} FAILED: {measurement.note}"
    value = measurement.values.get(metric.name)
    text = "-" if value is None else f"{value:,.{metric.digits}f} {metric.unit}".rstrip()
    errors = ", ".join(f"{count} x {kind}" for kind, count in measurement.errors.items())
    return f"{where}: {measurement.server} {text}" + (f"  [{errors}]" if errors else "")


class Progress:
    """Keeps the line. On a terminal it is redrawn in place; in a log every measurement is a line of its own."""

    def __init__(self, jobs: list[Job], out: TextIO = sys.stderr) -> None:
        """Sum up what is planned."""
        self._jobs = jobs
        self._out = out
        self._done = 0
        self._planned = sum(job.seconds for job in jobs)
        self._passed = 0.0
        self._start = self._noted = time.monotonic()
        self._at: Job | None = None
        self._over = threading.Event()
        if out.isatty():
            threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self._over.wait(1.0):
            self._draw()

    def remaining(self) -> float:
        """Estimate the seconds left: the plan's, corrected by how the plan has fared so far."""
        took = time.monotonic() - self._start
        pace = took / self._passed if self._passed > 20 else 1.0
        current = min(time.monotonic() - self._noted, self._at.seconds * pace) if self._at else 0.0
        return (self._planned - self._passed) * pace - current

    def _head(self) -> str:
        return f"[{self._done}/{len(self._jobs)}, {left(self.remaining())} left]"

    def show(self, job: Job) -> None:
        """Say what is being measured; only a terminal shows that."""
        self._at, self._noted = job, time.monotonic()
        self._draw()

    def _draw(self) -> None:
        job = self._at
        if job and self._out.isatty():
            text = f"{self._head()} {job.cell.scenario} {job.cell.variant}".rstrip() + f": {job.cell.server} ..."
            # A line that wraps could not be removed again.
            print(f"\r\x1b[K{text[: self._width() - 1]}", end="", file=self._out, flush=True)

    def note(self, job: Job, measurement: Measurement) -> None:
        """Take one finished measurement."""
        self._done = self._jobs.index(job) + 1
        self._passed = sum(job.seconds for job in self._jobs[: self._done])
        self._at, self._noted = None, time.monotonic()
        text = line_of(measurement, job.scenario.metrics[0])
        if not self._out.isatty():
            print(self._head(), text, file=self._out, flush=True)
            return
        colour = "\x1b[31m" if measurement.status is Status.FAILED or measurement.errors else ""
        print(f"\r\x1b[K{colour}{text}\x1b[0m", file=self._out, flush=True)
        if self._done < len(self._jobs):
            self.show(self._jobs[self._done])

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except OSError:
            return 80

    def end(self) -> None:
        """Remove the line."""
        self._over.set()
        self._at = None
        if self._out.isatty():
            print("\r\x1b[K", end="", file=self._out, flush=True)
