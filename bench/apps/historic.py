"""The two applications of the Circus author's comparison of June and July 2012, rebuilt from their description.

First: 10,000 multiplications, 100 ms asleep, 10,000 tiny writes to a temporary file; answers how long that took.
Second: 10,000 multiplications, 75 to 100 ms asleep, 100 bytes through a pipe to one of ten "database" threads taken
from a queue; answers the small page which that thread sends back.
"""

from __future__ import annotations

import _thread
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PAGE = b"<html><body><h1>A page from the database</h1></body></html>"
_lock = threading.Lock()
_database: queue.Queue[tuple[int, int]] | None = None


def _multiply() -> int:
    total = 0
    for number in range(10_000):
        total = number * number
    return total


def _serve(requests: int, answers: int) -> None:
    while os.read(requests, 100):
        os.write(answers, PAGE)


def _start_thread(target: Callable[[int, int], None], *pipes: int) -> None:
    """Start a thread of the system's, also where gevent has put greenlets in their place.

    The recipe starts them before the server is there to patch anything. A greenlet that reads from a pipe would halt
    all others of its process, for ever.
    """
    patched = sys.modules.get("gevent.monkey")
    start = patched.get_original("_thread", "start_new_thread") if patched else _thread.start_new_thread
    start(target, pipes)


def _connections() -> queue.Queue[tuple[int, int]]:
    """Start the ten threads in the process that serves, at its first request: threads do not survive a fork."""
    global _database
    with _lock:
        if _database is None:
            _database = queue.Queue()
            for _ in range(10):
                request_in, request_out = os.pipe()
                answer_in, answer_out = os.pipe()
                _start_thread(_serve, request_in, answer_out)
                _database.put((request_out, answer_in))
        return _database


def _answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
    return [body]


def first(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Bench 1: about 200 ms a call, bound by the disk."""
    start = time.monotonic()
    _multiply()
    time.sleep(0.1)  # noqa: TID251 - the recipe
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(10_000):
            file.write(b"x")
    return _answer(start_response, b"%.6f" % (time.monotonic() - start))


def second(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Bench 2: about 100 ms a call, mostly waiting."""
    _multiply()
    time.sleep(random.uniform(0.075, 0.1))  # noqa: TID251 - the recipe
    connections = _connections()
    connection = connections.get()
    os.write(connection[0], b"q" * 100)
    body = os.read(connection[1], 4096)
    connections.put(connection)
    return _answer(start_response, body)
