"""Runs the suites from a shell: `python -m forkserve.testing [--suites NAMES] [--markdown FILE] [BACKEND ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from forkserve.backends.registry import entries, state_of
from forkserve.testing.matrix import markdown
from forkserve.testing.outcome import SuiteReport
from forkserve.testing.running import SUITES, check_backend

__all__ = ["main"]


def main() -> int:
    """Run the command line; return 1 if a backend of forkserve, or one that was named, fails a check."""
    parser = argparse.ArgumentParser(prog="python -m forkserve.testing", description="Run the suites over backends.")
    parser.add_argument("backends", nargs="*", help="all that can serve here if none is named")
    parser.add_argument("--suites", default=",".join(SUITES), help="some of them, comma-separated")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--jobs", type=int, default=3, help="backends at a time; most of it is waiting (3)")
    arguments = parser.parse_args()
    suites = tuple(arguments.suites.split(","))
    unknown = set(suites) - set(SUITES)
    if unknown:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}; there is {', '.join(SUITES)}")
    reports = list(_reports(arguments.backends or _usable(), suites, arguments.jobs))
    if arguments.markdown:
        arguments.markdown.write_text(markdown(reports))
    judged = arguments.backends or ("sync", "threads", "gevent", "asgi")
    return int(any(each.failures for each in reports if each.backend in judged))


def _usable() -> list[str]:
    return [entry.name for entry in entries() if state_of(entry.traits).usable]


def _reports(backends: list[str], suites: tuple[str, ...], jobs: int) -> Iterator[SuiteReport]:
    with ThreadPoolExecutor(jobs) as pool:
        for reports in pool.map(partial(check_backend, suites=suites), backends):
            for report in reports:
                print(report, flush=True)
            yield from reports


if __name__ == "__main__":
    sys.exit(main())
