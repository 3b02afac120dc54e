"""The application of the TLS tests: bodies that say whose they are, and streams."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LATE = 0.3
"""Seconds."""
TEXT = [("Content-Type", "text/plain")]


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """`/own/MARK/SIZE` is MARK again and again; `/endless` never ends; `/fork` has a child that ends at once.

    `/late` lets others run for a while first.
    """
    start("200 OK", TEXT)
    kind, *words = environ["PATH_INFO"][1:].split("/")
    return {"own": own, "endless": endless, "fork": fork, "late": late}[kind](*words)


def own(mark: str, size: str) -> list[bytes]:
    """Return so many bytes of a mark."""
    return [(mark.encode() * int(size))[: int(size)]]


def late() -> list[bytes]:
    """Answer after what the client has sent behind its request was read."""
    threading.Event().wait(LATE)
    return [b"late"]


def fork() -> list[bytes]:
    """Wait for a child."""
    child = os.fork()
    if not child:
        os._exit(0)
    return [b"%d" % os.waitpid(child, 0)[1]]


def endless() -> Iterator[bytes]:
    """Yield for ever."""
    while True:
        yield b"x" * 65536
