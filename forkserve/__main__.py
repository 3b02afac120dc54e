"""`python -m forkserve` is the `forkserve` command."""

import sys

from forkserve.cli.master import main

if __name__ == "__main__":
    sys.exit(main())
