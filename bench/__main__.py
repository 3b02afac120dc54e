"""`python -m bench`: see `bench/run.sh --help`."""

from __future__ import annotations

import sys

from bench.harness.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
