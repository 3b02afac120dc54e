"""Any program can be a watcher; this one prints a line every five seconds: `forkserve -- python3 ticker.py`."""

from __future__ import annotations

import itertools
import os
import signal
import sys


def main() -> None:
    """Tick until SIGTERM; sigtimedwait(2) sleeps and waits for the signal at the same time."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for tick in itertools.count():
        print(f"tick {tick} from process {os.getpid()}", flush=True)
        if signal.sigtimedwait({signal.SIGTERM}, 5.0) is not None:
            sys.exit(0)


if __name__ == "__main__":
    main()
