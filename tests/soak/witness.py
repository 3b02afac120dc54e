"""A server that does nothing but answer: what its client waits for is the machine's doing, not forkserve's.

A request that was slow while the witness was slow as well was held up by what else the machine did. What is left of its
wait after that is what the reload has added.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.support.load import Load
from tests.support.serving import bound

__all__ = ["added_waits", "witnessing"]

SERVER = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nhello")
    client.close()
"""


@contextlib.contextmanager
def witnessing(pause: float) -> Iterator[Load]:
    """Run the witness with one client that asks it all the time."""
    with bound() as listener:
        command = [sys.executable, "-S", "-u", "-c", SERVER, str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
        address: tuple[str, int] = listener.getsockname()
        try:
            with Load(address, clients=1, pause=pause) as load:
                yield load
        finally:
            process.kill()
            process.wait()


def added_waits(waits: Sequence[tuple[float, float]], witness: Sequence[tuple[float, float]]) -> list[float]:
    """Return by how much each request took longer than usual, less what held up the witness in that time."""
    usual = statistics.median(took for _, took in waits)
    ends = sorted(begun + took for begun, took in witness)
    gaps = [later - earlier for earlier, later in pairwise(ends)]
    normal = statistics.median(gaps)
    added = []
    for begun, took in waits:
        first, last = bisect_left(ends, begun) - 1, bisect_left(ends, begun + took)
        held = max(gaps[max(first, 0) : last + 1], default=normal)
        added.append(took - usual - max(held - normal, 0.0))
    return added
