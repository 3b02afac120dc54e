"""The command line.

What to measure, how long, where to; and the order of a run. Exit codes: 0 done, 1 failed, 2 usage, 130 cut off.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from bench.harness import machine, pinning, plots, report, rounds, selftest, sitting, store
from bench.harness.clients import SIGNALS
from bench.harness.context import Bench
from bench.harness.model import BenchError, Settings
from bench.harness.progress import left
from bench.harness.scenarios import SCENARIOS, chosen
from bench.harness.servers import SERVERS, named

__all__ = ["main", "settings_from"]

RESULTS = Path(__file__).parents[1] / "results"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise BenchError(f"{message} (--help shows the options)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bench/run.sh",
        description="Compare forkserve with Gunicorn and the field. Without options: the short set, under 10 minutes.",
    )
    add = parser.add_argument
    add(
        "--full",
        action="store_true",
        help="every scenario, every table, every server (two and a half hours)",
    )
    add("--quick", action="store_true", help="about a minute: does everything still work?")
    add("--only", type=_names, default=(), metavar="A,B", help="these scenarios (--list shows them)")
    add("--servers", type=_names, default=(), metavar="A,B", help="these servers (--list shows them)")
    add("--rounds", type=_at_least_one, metavar="N", help="rounds of each timed scenario (default 3)")
    add("--duration", type=_at_least_one, metavar="S", help="seconds of load in each round (default 2)")
    add("--compare", type=Path, metavar="OLD.json", help="show what has changed since that run")
    add("--out", type=Path, help="folder for the results (default: bench/results/TIME)")
    add("--list", action="store_true", help="list scenarios and servers")
    add("--plan", action="store_true", help="say what would be measured and how long it would take")
    add("--self-test", action="store_true", help="prove that the harness sees slow, lossy and wrong servers")
    add("--write-docs", action="store_true", help="write docs/benchmarks.md from this run")
    add("--resume", type=Path, metavar="RESULTS", help="go on with a run that was cut off or disturbed")
    add("--report", type=Path, metavar="RESULTS", help="measure nothing: write the report of an earlier run again")
    return parser


def settings_from(options: argparse.Namespace) -> Settings:
    """Turn options into settings; raises BenchError for the name of a server that does not exist."""
    for name in options.servers:
        if named(name).interface == "self-test":
            raise BenchError(f"{name} is no server but part of --self-test")
    duration = options.duration or (1 if options.quick else 2)
    number = options.rounds or (1 if options.quick else 3)
    servers = options.servers
    if options.quick and not servers:
        servers = ("nginx", "forkserve-sync", "forkserve-asgi", "gunicorn-gthread", "uvicorn")
    # Scenarios asked for by name are given with all their servers and variants only by --full.
    return Settings(duration, number, options.full, options.quick, options.only, servers)


def _settings_of(earlier: store.Results, options: argparse.Namespace) -> Settings:
    """Return the settings of the run that is to be taken up; raises BenchError where others are asked for."""
    given = ("full", "quick", "only", "servers", "rounds", "duration", "out")
    if asked := [f"--{name}" for name in given if getattr(options, name)]:
        raise BenchError(f"--resume goes on with that run's own settings, not with {', '.join(asked)}")
    try:
        return Settings.from_json(earlier.settings)
    except (KeyError, TypeError) as error:
        raise BenchError(f"{options.resume} does not say how it was measured: {error}") from error


def _list() -> None:
    print("scenarios (* = in the short set)")
    for scenario in SCENARIOS.values():
        print(f"  {'*' if scenario.in_short else ' '} {scenario.name:17} {scenario.question}")
    print("servers")
    for server in SERVERS.values():
        if server.interface != "self-test":
            version = machine.version_of(server.distribution)
            print(f"    {server.name:18} {server.interface:11} {version:14} {server.advice}")


def _self_test(bench: Bench) -> int:
    wrong = 0
    for server, right, seen in selftest.check(bench):
        wrong += not right
        print(f"{'ok    ' if right else 'FAILED'} {server:8} {seen}", flush=True)
    print("the harness sees what it must" if not wrong else f"{wrong} faults went unseen: do not believe this harness")
    return 1 if wrong else 0


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _typed() -> str:
    """Return the command as a reader would repeat it: without the folder that the results went to."""
    return shlex.join(["bench/run.sh", *(word for word in sys.argv[1:] if not word.startswith("/"))]).replace(
        " --out", ""
    )


def _jobs(settings: Settings) -> list[rounds.Job]:
    """Plan the run; raises BenchError for a server that was asked for and that nothing would be measured of."""
    jobs = rounds.plan(chosen(settings), settings)
    for name in settings.servers:
        if not any(job.cell.server == name for job in jobs):
            full = replace(settings, full=True)
            where = [each.name for each in SCENARIOS.values() if any(c.server == name for c in each.cells(full))]
            raise BenchError(f"{name} is in none of these scenarios; it is in: {', '.join(where)}")
    return jobs


def _columns() -> int:
    """Return how wide the terminal is; 0 where the tables go to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _measure(
    bench: Bench, options: argparse.Namespace, earlier: store.Results | None, other: store.Results | None
) -> int:
    jobs = _jobs(bench.settings)
    plots.check()
    if earlier:
        here = sitting.take_up(bench, jobs, earlier, options.resume)
    else:
        folder = options.out or RESULTS / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        here = sitting.begin(bench, jobs, folder, _typed())
    code = sitting.measure(bench, here)
    print(report.terminal(report.write(here.results, here.folder, other), _columns()))
    print(f"\nreport: {here.folder}/report.html, {here.folder}/report.md; raw: {here.folder}/results.json")
    if options.write_docs and code == 0:
        print(f"written: {report.write_docs(here.results, here.folder)}")
    return code


def _again(folder: Path, options: argparse.Namespace, other: store.Results | None) -> int:
    results = store.load(folder)
    plots.check()
    target = folder if folder.is_dir() else folder.parent
    print(report.terminal(report.write(results, target, other), _columns()))
    if options.write_docs:
        print(f"written: {report.write_docs(results, target)}")
    return 0


def _run(options: argparse.Namespace) -> int:
    if options.list:
        _list()
        return 0
    other = store.load(options.compare) if options.compare else None
    if options.report:
        return _again(options.report, options, other)
    earlier = store.load(options.resume) if options.resume else None
    settings = _settings_of(earlier, options) if earlier else settings_from(options)
    if options.plan:
        jobs = _jobs(settings)
        if earlier:
            jobs, _ = rounds.still_to_do(jobs, earlier.measurements)
        for job in jobs:
            print(f"{job.cell.scenario} {job.cell.variant}: {job.cell.server} (round {job.round + 1})")
        print(f"{len(jobs)} measurements, about {left(sum(job.seconds for job in jobs))}")
        return 0
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    bench = Bench(settings, pinning.here())
    try:
        if options.self_test:
            return _self_test(bench)
        return _measure(bench, options, earlier, other)
    finally:
        bench.close()


def _unread() -> int:
    """Write the rest to nowhere, since whatever read the output has closed it (`| head`); return the exit code.

    It is the one that Python ends with for EPIPE. A run that was cut off by that can be resumed.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return 1


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    try:
        try:
            return _run(_parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # here, where it can be caught
    except BrokenPipeError:
        return _unread()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
