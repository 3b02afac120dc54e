"""A hook that waits for a database outside of this stack, for instance on another machine.

For a watcher of the same stack `after = db` is enough.
"""

from __future__ import annotations

import os
import select
import socket
import time


def wait_for_database(watcher, arbiter, hook_name, **details):
    """Return when a server listens at DATABASE; forkserve allows `hook_timeout` seconds; other watchers start."""
    host, _, port = os.environ["DATABASE"].rpartition(":")
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            select.select([], [], [], 0.2)
        else:
            return True
    return False


def tell(watcher, arbiter, hook_name, **details):
    """Print the event; an error here stops nothing."""
    print(f"{hook_name}: {watcher.name}", flush=True)
    return True
