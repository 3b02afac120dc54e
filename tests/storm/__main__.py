"""Storms: `python -m tests.storm --seconds 600 --seed 7`. Exit status 1 and an account when something did not hold."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.storm.course import Broken, blow
from tests.storm.deeds import DEEDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description="Have a master weather a storm.")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it blows (600)")
    seed = random.SystemRandom().randrange(2**31)
    parser.add_argument("--seed", type=int, default=seed, help="what chooses the deeds; printed, by default random")
    parser.add_argument("--count", type=int, help="so many deeds, each kind at least once, instead of --seconds")
    parser.add_argument("--only", choices=list(DEEDS), nargs="+", metavar="DEED", help=f"only of {', '.join(DEEDS)}")
    parser.add_argument("--verbose", action="store_true", help="tell each deed when it is done")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    seconds = float("inf") if chosen.count else chosen.seconds
    echo = (lambda line: print(line, flush=True)) if chosen.verbose else (lambda line: None)
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        try:
            told = blow(Path(folder), chosen.seed, seconds, count=chosen.count, only=chosen.only, echo=echo)
        except Broken as broken:
            print(broken)
            return 1
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
