"""Start fastpysgi by its Python interface (its command knows no worker count).

Arguments: application, workers, host, port.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

import fastpysgi


def _stop(*_: object) -> None:
    for pid in fastpysgi.server.worker_list:
        os.kill(pid, signal.SIGTERM)
    os._exit(0)


def main(application: str, workers: int, host: str, port: int) -> None:
    """Serve in `workers` processes; on SIGTERM the first one ends the others by their pids."""
    module, _, attribute = application.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    if workers > 1:
        signal.signal(signal.SIGTERM, _stop)
    fastpysgi.run(app, host, port, workers=workers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
