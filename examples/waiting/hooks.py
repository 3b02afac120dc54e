"""A hook that waits for a database which is none of this stack's watchers: on another machine, or another tool's.

For a watcher of the same stack `after = db` is enough.
"""

from __future__ import annotations

import os
import select
import socket
import time


def wait_for_database(watcher, arbiter, hook_name, **details):
    """Return when something listens at DATABASE; forkserve gives it `hook_timeout` seconds, and others do not wait."""
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
    """Say what has happened; an error in it stops nothing."""
    print(f"{hook_name}: {watcher.name}", flush=True)
    return True
