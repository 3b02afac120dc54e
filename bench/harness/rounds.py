"""The order of measurements: A B C, A B C, A B C. Neighbours in time meet the same machine; a drift hits all alike."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import psutil

from bench.harness import procs
from bench.harness.context import Bench
from bench.harness.model import VOID, BenchError, Cell, Measurement, Sample, Settings, Status
from bench.harness.scenarios.base import Scenario

__all__ = ["Job", "interleave", "perform", "plan", "run", "still_to_do"]


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement to be made, and how long it should take in seconds."""

    scenario: Scenario
    cell: Cell
    round: int
    seconds: float


def interleave(cells: list[Cell], rounds: int) -> Iterator[tuple[int, Cell]]:
    """Order the cells of one variant after another, each variant round by round through all its servers."""
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    for variant in variants:
        for number in range(rounds):
            for cell in cells:
                if cell.variant == variant:
                    yield number, cell


def plan(scenarios: list[Scenario], settings: Settings) -> list[Job]:
    """List all measurements of a run in order."""
    return [
        Job(scenario, cell, number, scenario.seconds(cell, settings))
        for scenario in scenarios
        for number, cell in interleave(scenario.cells(settings), scenario.rounds(settings))
    ]


def _failed(measurements: Iterable[Measurement]) -> set[Cell]:
    return {measurement.cell for measurement in measurements if measurement.status is Status.FAILED}


def still_to_do(jobs: list[Job], measured: list[Measurement]) -> tuple[list[Job], list[Measurement]]:
    """Return what a run that was cut off has yet to measure, and which of its measurements count.

    A round that was cut in the middle, or disturbed, is measured again from its start: ratios are taken within rounds.
    """
    made = {(measurement.cell, measurement.round) for measurement in measured if measurement.noise <= VOID}
    failed = _failed(measured)

    def whose(cell: Cell, number: int) -> tuple[str, str, int]:
        return cell.scenario, cell.variant, number

    cut = {whose(job.cell, job.round) for job in jobs if (job.cell, job.round) not in made and job.cell not in failed}
    kept = [each for each in measured if whose(each.cell, each.round) not in cut]
    failed = _failed(kept)
    done = {(each.cell, each.round) for each in kept}
    return [job for job in jobs if (job.cell, job.round) not in done and job.cell not in failed], kept


def _own_cpu() -> float:
    """Return the CPU seconds of this process and of all children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _first(error: BaseException) -> BaseException:
    """Return what a group of exceptions began with; an exception that is no group is returned itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def perform(job: Job, bench: Bench) -> Measurement:
    """Make one measurement. A server that fails is a result, not an end."""
    started, start = time.time(), time.monotonic()
    busy, own = procs.busy_seconds(), _own_cpu()
    sample, command, status = Sample({}), "", Status.OK
    try:
        sample, command = job.scenario.measure(job.cell, bench)
    except* (BenchError, OSError, psutil.Error, subprocess.SubprocessError) as group:  # a TaskGroup wraps them
        error = _first(group)
        sample, status = Sample({}, note=str(error) or type(error).__name__), Status.FAILED
    seconds = time.monotonic() - start
    noise = procs.foreign_cores(procs.busy_seconds() - busy, _own_cpu() - own, seconds)
    return Measurement(
        job.cell.scenario, job.cell.variant, job.cell.server, job.round, status, started, seconds, sample.values,
        sample.errors, sample.note, command, round(noise, 2), )  # fmt: skip


def run(jobs: list[Job], bench: Bench, note: Callable[[Job, Measurement], None]) -> None:
    """Make all measurements. A server that failed in a variant is not tried again there."""
    failed: set[Cell] = set()
    for job in jobs:
        if job.cell in failed:
            continue
        measurement = perform(job, bench)
        if measurement.status is Status.FAILED:
            failed.add(job.cell)
        note(job, measurement)
