"""The fuzzers: `python -m tests.fuzz [TARGET ...] --seconds 30`.

Targets: `parsers` (the readers of requests in Python, led by coverage), `serving.native` (the readers in C against those in
Python), `workers` (real workers of every backend, over sockets), `allocations` (every allocation of a turn fails once).
Without one it is the first two. The exit status is 1 when something breaks; what broke it is printed with the seed, and
`--seed` repeats it.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys

from forkserve.serving.native import hot
from tests.fuzz import allocations
from tests.fuzz.compiled import fuzz_compiled
from tests.fuzz.contained import contained
from tests.fuzz.parsers import fuzz_parsers, fuzz_with_atheris
from tests.fuzz.workers import BACKENDS, Wanted, fuzz_workers


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz forkserve.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="parsers, compiled, workers, allocations (the first two)"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each target runs")
    parser.add_argument("--seed", type=int, default=None, help="what a run begins with; printed by each run")
    parser.add_argument("--number", type=int, default=None, help="the one conversation of that seed (workers)")
    parser.add_argument(
        "--backend", action="append", choices=BACKENDS, help="repeatable; all without it (workers, allocations)"
    )
    parser.add_argument("--app", default=None, help="another application than tests/fuzz/mirror.py (workers)")
    parser.add_argument("--atheris", action="store_true", help="have atheris drive the target parsers")
    chosen = parser.parse_args()
    chosen.targets = chosen.targets or ["parsers", "compiled"]
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if chosen.seed is None:
        chosen.seed = random.SystemRandom().randrange(2**31)
    return chosen


def parsers(chosen: argparse.Namespace) -> int:
    if chosen.atheris:
        fuzz_with_atheris(chosen.seconds, chosen.seed)
        return 0
    return contained(functools.partial(fuzz_parsers, chosen.seconds, chosen.seed))


def compiled(chosen: argparse.Namespace) -> int:
    if hot is None:
        print("compiled: not run, for forkserve goes without its compiled part here", flush=True)
        return 0
    return contained(functools.partial(fuzz_compiled, chosen.seconds, chosen.seed))


def workers(chosen: argparse.Namespace) -> int:
    return fuzz_workers(Wanted(chosen.seconds, chosen.seed, chosen.backend or BACKENDS, chosen.number, chosen.app))


def starved(chosen: argparse.Namespace) -> int:
    if not allocations.can_starve():
        print("allocations: not run, for this Python has no _testcapi", flush=True)
        return 0
    return allocations.fuzz_allocations(chosen.backend or allocations.BACKENDS, pure=hot is None)


TARGETS = {"parsers": parsers, "compiled": compiled, "workers": workers, "allocations": starved}


def main() -> int:
    chosen = arguments()
    return max(TARGETS[target](chosen) for target in chosen.targets)


if __name__ == "__main__":
    sys.exit(main())
