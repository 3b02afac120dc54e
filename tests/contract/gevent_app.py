"""The WSGI application of the gevent backend's contract: what users do with their greenlet, and what it may leave."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import gevent
from gevent.event import Event
from gevent.local import local
from gevent.queue import Queue

Environ = dict[str, Any]
Start = Callable[..., Any]
variable: ContextVar[str] = ContextVar("variable", default="")
patched = threading.local()
kept: list[Any] = []
inside: list[None] = []
peaks: list[int] = []
queue: Queue[str] = Queue()
ended = Event()


class Filled(local):
    """A local whose initialiser is called in each greenlet."""

    def __init__(self) -> None:
        self.first = "first"


filled = Filled()


def found() -> str:
    """What an earlier request has left; nothing, if all is well."""
    current = gevent.getcurrent()
    names = [name for name in vars(patched) if not name.startswith("_")] + list(vars(filled))
    attribute = getattr(current, "attribute", "")
    return f"{variable.get()}{names}{attribute}{threading.current_thread().name.startswith('mine')}"


def leave() -> str:
    before = found()
    variable.set("set")
    patched.left = filled.left = "left"
    threading.current_thread().name = "mine"
    logging.getLogger("any").info("asks for the current thread")
    return before


def attribute() -> str:
    before = found()
    gevent.getcurrent().attribute = "left"  # type: ignore[attr-defined]
    return before


def link() -> str:
    ended.clear()
    gevent.getcurrent().link(lambda _: ended.set())  # type: ignore[attr-defined]
    return "linked"


def linked() -> str:
    return str(ended.wait(10))


def forgotten() -> str:
    """Leave a timeout behind that strikes after the response."""
    gevent.Timeout(0.001).start()
    return "forgotten"


def keep() -> str:
    kept.append(gevent.getcurrent())
    return "kept"


def kill_kept() -> str:
    for each in kept:
        gevent.kill(each)
    gevent.sleep(0.01)
    return str(any(each is gevent.getcurrent() for each in kept))


def waits() -> str:
    gevent.sleep(0.02)
    return "waited"


def timeout() -> str:
    with gevent.Timeout(0.001, False):
        Event().wait()
    try:
        with gevent.Timeout(0.001):
            Event().wait()
    except gevent.Timeout:
        return "timed out"
    return "not timed out"


def kill() -> str:
    gevent.kill(gevent.getcurrent())
    Event().wait()
    return "alive"


def spawn() -> str:
    """Leave a greenlet behind that goes on after the response."""
    ended.clear()
    gevent.spawn_later(0.001, ended.set)
    return "spawned"


def children() -> str:
    return "".join(each.get() for each in [gevent.spawn(str, number) for number in range(3)])


def get() -> str:
    return queue.get(timeout=10)


def put() -> str:
    queue.put("from another")
    return "put"


def kind() -> str:
    current = gevent.getcurrent()
    assert isinstance(current, gevent.Greenlet)
    return f"{current.name[:9]} {current.dead} {current.ready()} {weakref.ref(current)() is current}"


def crowd() -> str:
    """Return how many were in here at once until now, at most."""
    inside.append(None)
    peaks.append(len(inside))
    gevent.sleep(0.02)
    inside.pop()
    return str(max(peaks))


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    """Call the function that the path names."""
    text = globals()[environ["PATH_INFO"][1:]]()
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
