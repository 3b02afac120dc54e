"""Greenlets that run one exchange after another, each as if it had a separate greenlet.

A greenlet costs more than a small request: mapping its stack and unmapping it are two system calls. So one that has
ended its exchange waits for the next, in a bounded pool. What one request could leave to the next, but does not:

* `contextvars`: each exchange runs in a new, empty context, as gevent gives any new greenlet.
* `gevent.local`, and `threading.local` and the current thread where they are patched: gevent forgets them by a link
  to the greenlet's end. For these links the end of the exchange is that end.
* Any other link, a name, an attribute, a weak reference: the greenlet ends with its exchange.
* A reference to the greenlet itself, such as that of a `gevent.Timeout` that was not cancelled or of a `kill` in
  progress. It shows as one reference too many when the greenlet is to be reused; then it ends.

They are real `gevent.Greenlet` objects, as applications know them from Gunicorn. This module imports gevent, so it is
imported when serving begins.
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from contextlib import suppress
from contextvars import Context
from sys import getrefcount
from types import FrameType
from typing import Any
from weakref import getweakrefcount

import gevent
import gevent.os
from gevent import Greenlet, get_hub, getcurrent
from greenlet import greenlet  # type: ignore[import-untyped]

from forkserve.backends.alarm import in_application
from forkserve.serving.ends import End
from forkserve.serving.failure import OURS, TimedOut
from forkserve.wsgi import WsgiExchange

__all__ = ["Pool", "keep_statuses", "where"]

IDLE = 256
"""Greenlets that may wait for an exchange; each keeps some 12 kB."""

LOCAL = "_gevent_local_localimpl_"
"""Prefix of the names in a greenlet's dictionary by which gevent finds its locals."""
LOCALS = frozenset({"gevent._gevent_clocal", "gevent.local", "gevent.threading"})
"""Modules whose links to a greenlet's end only forget what was local to it."""

GEVENT = os.path.dirname(gevent.__file__) + os.sep

_switch = greenlet.switch


class _Server(Greenlet):
    """Runs the exchange in `exchange`, then waits in the pool for another; None there ends it."""

    __slots__ = ("exchange", "forgetting", "pool")

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.exchange: Any = None
        self.forgetting: list[Any] = []

    def rawlink(self, callback: Any) -> None:
        """Call this when the greenlet has ended, or its exchange, if it is a link by which gevent forgets locals."""
        module = getattr(callback, "__module__", None) or type(callback).__module__
        if module in LOCALS:
            self.forgetting.append(callback)
        else:
            super().rawlink(callback)

    def unlink(self, callback: Any) -> None:
        """Do not call this."""
        if callback in self.forgetting:
            self.forgetting.remove(callback)
        else:
            super().unlink(callback)

    def _run(self) -> None:
        try:
            while (exchange := self.exchange) is not None:
                Context().run(exchange.run)
                exchange.context = self.exchange = None
                del exchange
                if self.pool.limit:
                    self.pool.ended()
                if self.forgetting:
                    self._forget()
                if not self._wait():
                    return
        finally:
            if self.exchange is not None:
                if self.pool.limit:
                    self.pool.ended()
                self.exchange.end(End.FAULT)
            for callback in self.forgetting:
                super().rawlink(callback)

    def _forget(self) -> None:
        """Drop what is local to this greenlet."""
        callbacks, self.forgetting = self.forgetting, []
        for callback in callbacks:
            callback(self)
        for name in [name for name in self.__dict__ if name.startswith(LOCAL)]:
            del self.__dict__[name]

    def _wait(self) -> bool:
        """Wait for another exchange; False when this greenlet has to end."""
        idle = self.pool.idle
        if self.__dict__ or self.forgetting or self.has_links() or getweakrefcount(self) or len(idle) >= IDLE:
            return False
        idle.append(self)
        try:
            _switch(self.pool.hub)
        except BaseException:  # noqa: BLE001 - it was meant for an exchange that has ended
            self.exchange = None
        if self.exchange is None:
            # This was not `Pool.start`, which takes it out first.
            with suppress(ValueError):
                idle.remove(self)
        return True


class _Nothing:
    """An exchange that ends at once."""

    context = None

    def run(self) -> None:
        """Do nothing."""

    def end(self, how: End) -> None:
        """Do nothing."""


class Pool:
    """The greenlets of one serving, at most `limit` with an exchange (0: no limit); further ones wait in `backlog`.

    Everything but its making is done in the hub.
    """

    def __init__(self, limit: int = 0) -> None:
        self.hub = get_hub()
        self.idle: list[_Server] = []
        self.references = 0
        self.held: list[greenlet] = []
        self.limit = limit
        self.running = 0
        self.backlog: deque[WsgiExchange] = deque()
        self.start = self._start_within_limit if limit else self._start

    def _start_within_limit(self, exchange: WsgiExchange) -> None:
        if self.running >= self.limit or self.backlog:
            exchange.context = None
            self.backlog.append(exchange)
            return
        self.running += 1
        self._start(exchange)

    def ended(self) -> None:
        """Note that an exchange has ended; called by its greenlet, which is still on its own stack."""
        self.running -= 1
        if self.backlog:
            self.hub.loop.run_callback(self._take_next)

    def _take_next(self) -> None:
        if self.backlog and self.running < self.limit:
            self.running += 1
            self._start(self.backlog.popleft())

    def withdraw(self, exchange: WsgiExchange) -> bool:
        """Remove an exchange from the backlog; False if it was not in it."""
        with suppress(ValueError):
            self.backlog.remove(exchange)
            return True
        return False

    def _start(self, exchange: WsgiExchange) -> None:
        """Run the exchange until it first waits."""
        idle = self.idle
        while idle:
            green = idle.pop()
            if getrefcount(green) == self.references:
                break
            _switch(green)
        else:
            green = _Server(self) if self.references else self._first()
        exchange.context = green
        green.exchange = exchange
        _switch(green)

    def _first(self) -> _Server:
        """Make one, and count the references to a waiting greenlet that is not used elsewhere."""
        green = _Server(self)
        green.exchange = _Nothing()
        self.running += 1
        _switch(green)
        self.idle.pop()
        self.references = getrefcount(green)
        return green

    def interrupt(self, exchange: WsgiExchange) -> None:
        """Raise TimedOut where the exchange waits, unless it ends before."""
        self.hub.loop.run_callback(_throw, exchange)

    def hold_still(self) -> None:
        """Stop all greenlets except the current one, like threads after fork(2): they belong to the parent.

        What would wake them is stopped. They are kept referenced, since an unreferenced greenlet is ended by
        GreenletExit.
        """
        loop = self.hub.loop
        kinds = (type(loop.io(0, 1)), type(loop.timer(0)))
        found = gc.get_objects()
        self.held = [each for each in found if isinstance(each, greenlet)]
        for each in found:
            if isinstance(each, kinds) and each.active:
                each.stop()

    def close(self) -> None:
        """End those that wait."""
        while self.idle:
            _switch(self.idle.pop())


def _throw(exchange: Any) -> None:
    if exchange.context is not None:
        exchange.context.throw(TimedOut)


def keep_statuses(loop: Any) -> Any:
    """Keep the exit statuses of children that gevent does not watch for `os.waitpid`; returns the watcher, which must
    be closed.

    libev reaps every child at SIGCHLD (ev_child, "waitpid (-1, ...)"), and gevent's waitpid knows those that were
    created by its fork, but not those of `_posixsubprocess.fork_exec`, by which multiprocessing spawns.
    """
    watcher = loop.child(0, False)
    # Absent with GEVENT_NOWAITPID, which leaves waitpid alone.
    known: Any = getattr(gevent.os, "_watched_children", None)
    forget_old: Any = getattr(gevent.os, "_reap_children", None)

    def keep() -> None:
        if watcher.rpid not in known:
            known[watcher.rpid] = (watcher.rpid, watcher.rstatus, time.time())
        forget_old()

    if known is not None and forget_old is not None:
        watcher.start(keep)
    return watcher


def where(frame: FrameType | None) -> tuple[str, str] | None:
    """Return the name of the running greenlet for the log; None in code that may not be interrupted."""
    if frame is None or frame.f_code.co_filename.startswith((OURS, GEVENT)):
        return None
    green = getcurrent()
    if isinstance(green, _Server):
        exchange = green.exchange
        return exchange.name() if exchange is not None and in_application(frame, _Server._run.__code__) else None
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            return None
        frame = frame.f_back
    return "a greenlet", "of the application"
