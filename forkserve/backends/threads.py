"""threads: the loop does all I/O, `--threads N` threads run the application.

Rules: a thread gets a request that was read whole, and suspends a response that its client reads slowly, so no client
occupies a thread. Only that thread continues the response: an application may keep data in thread-locals. Threads start
when they are first needed; the last to become idle works first, so that fewer are warm.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Run, Traits
from forkserve.backends.serving import HONOURS
from forkserve.backends.wsgi_driver import wsgi_driver
from forkserve.serving.ends import End
from forkserve.serving.failure import TimedOut, log_overdue
from forkserve.unix.scoreboard import Field
from forkserve.wsgi import WsgiExchange

__all__ = ["Threads"]

PATIENCE = 1.0
"""Seconds for threads to end when all requests are answered: time for what follows a response, like its log."""

FULL = int(Field.FULL)

log = logging.getLogger("forkserve.threads")


class _Thread:
    """A thread of the pool; `own` are responses that it has begun and can continue."""

    def __init__(self, pool: _Pool, number: int) -> None:
        self.pool = pool
        self.inbox: SimpleQueue[WsgiExchange | None] = SimpleQueue()
        self.own: deque[WsgiExchange] = deque()
        self.exchange: WsgiExchange | None = None
        self.thread = threading.Thread(target=self.work, name=f"forkserve-{number}", daemon=True)

    def work(self) -> None:
        """Run what comes until None comes."""
        while (exchange := self.inbox.get()) is not None:
            following: WsgiExchange | None = exchange
            while following is not None:
                self.exchange = following
                try:
                    self.serve(following)
                except TimedOut:
                    # It was raised after the request had ended: no request is late.
                    log.debug("an interruption came too late")
                except BaseException:
                    # The exchange cannot even fail, as without memory; there may be none to log it, either.
                    following.end(End.FAULT)
                    with suppress(Exception):
                        log.exception("a fault of the server ended one connection")
                following = self.pool.next_for(self)

    def serve(self, exchange: WsgiExchange) -> None:
        """Run an exchange, or continue it."""
        if exchange.context is None:
            exchange.context = (copy_context(), self)
            exchange.context[0].run(exchange.run)
        else:
            exchange.context[0].run(exchange.resume)


class _Pool:
    """Runs exchanges on at most `size` threads."""

    wakes = True
    parks = True

    def __init__(self, size: int) -> None:
        self.lock: AbstractContextManager[Any] = threading.Lock()
        self.size = self.capacity = size
        self.threads: list[_Thread] = []
        self.mutex = threading.Lock()
        self.idle: list[_Thread] = []
        self.backlog: deque[WsgiExchange] = deque()
        self.waiting: dict[Any, threading.Event] = {}
        self.record: memoryview[float] | None = None
        """Where siblings see since when all threads are busy."""

    def start(self, exchange: WsgiExchange) -> None:
        """Give an exchange to an idle thread, a new one, or whichever is free first."""
        exchange.context = None
        with self.mutex:
            if self.idle:
                thread = self.idle.pop()
            elif len(self.threads) < self.size:
                thread = _Thread(self, len(self.threads))
                self.threads.append(thread)
                thread.thread.start()
            else:
                self.backlog.append(exchange)
                return
            self._note_full()
        thread.inbox.put(exchange)

    def _note_full(self) -> None:
        if self.record is not None and not self.idle and len(self.threads) == self.size:
            self.record[FULL] = time.monotonic()

    def resume(self, exchange: WsgiExchange) -> None:
        """Return an exchange to the thread that began it."""
        waiting = self.waiting.get(exchange.conn)
        if waiting is not None:
            waiting.set()
            return
        thread: _Thread = exchange.context[1]
        with self.mutex:
            if thread not in self.idle:
                thread.own.append(exchange)
                return
            self.idle.remove(thread)
            self._note_full()
        thread.inbox.put(exchange)

    def notify(self, exchange: WsgiExchange) -> None:
        """Wake the thread if it waits for its client."""
        waiting = self.waiting.get(exchange.conn)
        if waiting is not None:
            waiting.set()

    def next_for(self, thread: _Thread) -> WsgiExchange | None:
        """Return what a thread does next; None if it is idle now."""
        with self.mutex:
            thread.exchange = None
            if thread.own:
                return thread.own.popleft()
            if self.backlog:
                return self.backlog.popleft()
            self.idle.append(thread)
            if self.record is not None:
                self.record[FULL] = 0.0
            return None

    def wait(self, conn: Any, until: Callable[[], bool]) -> None:
        """Block the calling thread while the loop serves its connection."""
        self.waiting[conn] = event = threading.Event()
        try:
            while not until():
                event.wait()
                event.clear()
        finally:
            del self.waiting[conn]

    def interrupt(self, exchange: WsgiExchange) -> bool:
        """Raise TimedOut where the application is, or answer for a request that no thread has taken."""
        with self.mutex:
            if exchange in self.backlog:
                self.backlog.remove(exchange)
                exchange.end(End.UNSTARTED)
                return True
            thread = exchange.context[1] if exchange.context else None
            ident = thread.thread.ident if thread is not None and thread.exchange is exchange else None
            if ident is None:
                return False
            log_overdue(exchange.line.method, exchange.line.path, sys._current_frames().get(ident))
            raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(TimedOut))
        self.notify(exchange)
        return bool(raised)

    def close(self) -> None:
        """Let threads end; a stuck one is left to the end of the process."""
        for thread in self.threads:
            thread.inbox.put(None)
        patience = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.thread.join(max(0.0, patience - time.monotonic()))


class Threads:
    """The loop and a pool of threads."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="--threads N requests at a time",
        stops_accepting=True,
        honours=HONOURS | {"threads"},
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        size = run.options.concurrency.threads
        pool = _Pool(size)
        driver = wsgi_driver(app, listeners, run, pool, multithread=size > 1)
        if run.seat is not None:
            pool.record = run.seat.reals
        run.ready()
        try:
            driver.run()
        finally:
            pool.close()
            # A thread notes its request after the answer is out, which may be all that the loop waited for.
            driver.close_log()
