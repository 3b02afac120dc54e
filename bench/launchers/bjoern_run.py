"""Start bjoern as its README says: listen once, fork, run. Arguments: application, workers, host and port or a path."""

from __future__ import annotations

import importlib
import os
import signal
import sys

import bjoern


def main(application: str, workers: int, *address: str) -> None:
    """Serve in `workers` processes; on SIGTERM the first one ends the others by their pids."""
    module, _, attribute = application.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    if len(address) == 1:
        bjoern.listen(app, f"unix:{address[0]}")
    else:
        bjoern.listen(app, address[0], int(address[1]))
    children: list[int] = []
    for _ in range(workers - 1):
        pid = os.fork()
        if pid == 0:
            bjoern.run()
            return
        children.append(pid)

    def stop(*_: object) -> None:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    bjoern.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
