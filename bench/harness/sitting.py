"""What is measured in one go. A run may take several: one that was cut off can be taken up again."""

from __future__ import annotations

import datetime
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.harness import machine, rounds, store
from bench.harness.comparison import differences
from bench.harness.context import Bench
from bench.harness.model import BenchError, Measurement
from bench.harness.progress import Progress, left
from bench.harness.servers import SERVERS
from bench.harness.target import program

__all__ = ["Sitting", "begin", "measure", "take_up"]


@dataclass(frozen=True, slots=True)
class Sitting:
    """What is yet to be measured, what it is added to, and the folder that it is kept in."""

    jobs: list[rounds.Job]
    results: store.Results
    folder: Path


def begin(bench: Bench, jobs: list[rounds.Job], folder: Path, command: str) -> Sitting:
    """Begin a run; `command` is what it was asked with."""
    settings = asdict(bench.settings) | {"command": command}
    return Sitting(jobs, store.Results(_inspected(bench).as_json(), settings, started=_now()), folder)


def take_up(bench: Bench, jobs: list[rounds.Job], earlier: store.Results, path: Path) -> Sitting:
    """Go on with a run whose results are at `path`; raises BenchError where the figures would not belong together."""
    left_over, kept = rounds.still_to_do(jobs, earlier.measurements)
    if not left_over:
        raise BenchError(f"nothing is left to be measured in {path}; --report writes its report again")
    settings = earlier.settings | {"resumed": [*earlier.settings.get("resumed", []), _now()]}
    # The load before is the first sitting's: the machine is the same, or the run is refused.
    found = _inspected(bench).as_json() | {"load_before": earlier.machine.get("load_before")}
    results = store.Results(found, settings, kept, started=earlier.started)
    if changed := differences(results, earlier):
        raise BenchError(f"cannot go on with {path}, since then: {'; '.join(changed)}")
    return Sitting(left_over, results, path if path.is_dir() else path.parent)


def measure(bench: Bench, sitting: Sitting) -> int:
    """Measure, keep what comes out and show it; return 0, or 130 when it was cut off."""
    jobs, results, folder = sitting.jobs, sitting.results, sitting.folder
    kept, progress, code = store.Store(folder, results), Progress(jobs), 0
    print(
        f"{len(jobs)} measurements, about {left(progress.remaining())}; {bench.pins.describe()}; results in {folder}",
        file=sys.stderr,
    )

    def note(job: rounds.Job, measurement: Measurement) -> None:
        kept.add(measurement)
        progress.note(job, measurement)

    progress.show(jobs[0])
    try:
        rounds.run(jobs, bench, note)
    except KeyboardInterrupt as why:
        print(f"\ncut off ({why}); keeping what there is", file=sys.stderr)
        code = 130
    progress.end()
    kept.close(complete=code == 0)
    return code


def _inspected(bench: Bench) -> machine.Machine:
    distributions = [server.distribution for server in SERVERS.values() if server.distribution != "nginx"]
    return machine.inspect(
        bench.pins, [*distributions, "uvloop", "httptools"], nginx=program("nginx"), wrk=program("wrk")
    )


def _now() -> str:
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
