"""The soak: `python -m tests.soak`. Exit status 1, with an account, when something did not hold.

One part after another does to a stack what deploys, signals and accidents do, many times and under load, and counts
what clients see of it. Each row has its own time limit.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.soak import deploys, ends, masters, reloads
from tests.soak.row import BACKENDS, FULL, QUICK, Result, Row, Scale, table

PARTS: dict[str, tuple[Callable[[Path, Scale, str], Result], Sequence[str]]] = {
    "reloads": (reloads.reloads, [f"{each}{more}" for each in BACKENDS for more in ("", " preload")]),
    "deploys": (deploys.deploys, ["plain", "preload"]),
    "queues": (ends.queues, BACKENDS),
    "streams": (ends.streams, ["asgi"]),
    "upgrades": (masters.upgrades, ["sync"]),
    "kills": (masters.kills, ["sync"]),
    "reforks": (masters.reforks, ["sync", "sync tls", "asgi", "asgi tls"]),
    "stops": (ends.stops, BACKENDS),
}


def main() -> int:
    """Run the parts that are asked for; return 0 when all of them hold, 130 when interrupted."""
    given = _parser().parse_args()
    scale = QUICK if given.quick else FULL
    if given.import_seconds is not None:
        scale = replace(scale, import_seconds=given.import_seconds)
    rows: list[Row] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then, too
    wanted = [(part, variant) for part in given.only or PARTS for variant in PARTS[part][1]]
    try:
        for part, variant in wanted:
            if not given.variant or variant in given.variant:
                rows.append(_row(part, variant, scale, given.limit))
                print(table(rows[-1:]).splitlines()[1], flush=True)
    except KeyboardInterrupt:
        print(f"\n{table(rows)}\n\ninterrupted")
        return 130
    faults = [row for row in rows if row.fault]
    for row in faults:
        print(f"\n{row.part}, {row.variant}:\n{row.fault}")
    print(f"\n{table(rows)}\n\n{len(rows)} parts, {len(faults)} with a fault")
    return 1 if faults or not rows else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Do to a stack what deploys do, often.")
    parser.add_argument("--quick", action="store_true", help="a few times each instead of dozens")
    parser.add_argument("--only", choices=list(PARTS), nargs="+", metavar="PART", help=f"only of {', '.join(PARTS)}")
    parser.add_argument("--variant", nargs="+", help="only these variants, as the table has them")
    parser.add_argument("--import-seconds", type=float, help="how long the application takes to import (1.5)")
    parser.add_argument("--limit", type=int, default=900, help="seconds for one row; more is a fault (900)")
    return parser


def _row(part: str, variant: str, scale: Scale, limit: int) -> Row:
    """Run one part in one variant, in a folder made for it."""
    begun, result, fault = time.monotonic(), Result(), ""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            with _limited(limit):
                result = PARTS[part][0](Path(folder), scale, variant)
        except (AssertionError, TimeoutError, OSError) as error:
            fault = f"{error}" or repr(error)
    return Row(part, variant, time.monotonic() - begun, result, fault)


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread after so many seconds (setitimer(2))."""

    def over(_number: int, _frame: object) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main())
