"""Measures processes aside from the master's loop, once for all requests within a second.

Theory of operation. A companion, forked at the first request, reads /proc for the given pids, and answers with one line
of JSON. Measuring the memory of a large or a stuck process may take long: then the companion is blocked, and is killed
and replaced, and the requests get no figures. It ends by itself after a minute without a request.

Rules: each request is answered once, in later turns of the loop, with what is known of each pid.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader

import msgspec

from forkserve.control.schema.reports import UsageReport
from forkserve.control.usage import Meter
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.unix.fork_function import fork_companion

__all__ = ["Measure", "Sampler", "Usages"]

FRESH = 0.9
"""Seconds for which a figure counts as current; a client that asks each second gets a new one each time."""
PATIENCE = 2.0
"""Seconds that the companion has for an answer."""
IDLE = 60.0
"""Seconds without a request after which it ends."""

Usages = Mapping[int, UsageReport]
"""By pid; processes that have ended are missing."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A request: these pids, and whether everything that `stats` shows is needed."""

    pids: frozenset[int]
    closely: bool = False


@dataclass(frozen=True, slots=True)
class _Waiting:
    asked: Measure
    then: Callable[[Usages], None]


class Sampler:
    """The master's end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._waiting: list[_Waiting] = []
        self._asked: Measure | None = None
        self._known: dict[int, UsageReport] = {}
        self._known_closely = False
        self._known_at = float("-inf")
        self._known_of: frozenset[int] = frozenset()
        self._timer: Timer | None = None
        self._closed = False

    name = "sampler"

    @property
    def pid(self) -> int | None:
        """The companion's pid, None if there is none."""
        return self._pid

    def start(self) -> None:
        """Do nothing: it is forked at the first request."""

    def measure(self, asked: Measure, then: Callable[[Usages], None]) -> None:
        """Call `then` with the figures, now or soon; never raises."""
        if self._is_known(asked) or self._closed:
            then(self._known)
            return
        self._waiting.append(_Waiting(asked, then))
        if self._asked is None:
            self._ask()

    def reaped(self, pid: int) -> None:
        """Note that a pid has been reaped; it may be the companion's."""
        if pid == self._pid:
            self._pid = None
            self._lose()

    def close(self) -> None:
        """Dismiss the companion."""
        self._closed = True
        self._lose()

    def _is_known(self, asked: Measure) -> bool:
        is_fresh = self._loop.now() - self._known_at < FRESH and asked.pids <= self._known_of
        return is_fresh and (self._known_closely or not asked.closely)

    def _ask(self) -> None:
        """Send the requests of all that wait as one."""
        pids: frozenset[int] = frozenset().union(*(each.asked.pids for each in self._waiting))
        self._asked = Measure(pids, any(each.asked.closely for each in self._waiting))
        try:
            connection = self._socket or self._fork()
            connection.sendall(msgspec.json.encode((sorted(pids), self._asked.closely)) + b"\n")
        except OSError:
            self._lose()
            return
        self._timer = self._loop.call_later(PATIENCE, self._too_late)

    def _fork(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fd = theirs.fileno()
                self._pid = fork_companion("forkserve: sampler", lambda: _answer(fd), standard={2: 2}, keep=fd)
        except OSError:
            ours.close()
            raise
        ours.settimeout(PATIENCE / 10)  # a question is far smaller than its buffer
        self._socket = ours
        self._loop.watch(ours.fileno(), selectors.EVENT_READ, lambda _events: self._receive())
        return ours

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._received += data
        if not self._received.endswith(b"\n"):
            return
        usages = msgspec.json.decode(bytes(self._received), type=list[UsageReport])
        self._received.clear()
        assert self._asked is not None
        self._known = {each.pid: each for each in usages}
        self._known_of, self._known_closely = self._asked.pids, self._asked.closely
        self._known_at = self._loop.now()
        self._done()

    def _done(self) -> None:
        """Answer the sent requests, and send those that have arrived since."""
        asked, self._asked = self._asked, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if asked is None or (each.asked.pids <= asked.pids and (asked.closely or not each.asked.closely)):
                each.then(self._known)
            else:
                self._waiting.append(each)
        if self._waiting and self._asked is None:
            self._ask()

    def _too_late(self) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._lose()

    def _lose(self) -> None:
        """Go on without a companion; waiting requests get no figures."""
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._received.clear()
        self._known, self._asked = {}, None
        self._known_at = float("-inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.then({})


def _answer(fd: int) -> None:
    """Run in the companion: answer one request after another, until the master has gone."""
    # it may go with an answer unread, as at an upgrade
    with contextlib.suppress(ConnectionError), os.fdopen(os.dup(fd), "rb") as reader:
        _answer_each(fd, reader)


def _answer_each(fd: int, reader: BufferedReader) -> None:
    meter = Meter()
    while select.select([fd], [], [], IDLE)[0]:
        line = reader.readline()
        if not line:
            return
        pids, closely = msgspec.json.decode(line, type=tuple[list[int], bool])
        meter.turn()
        found = (meter.measure(pid, closely=closely) for pid in pids)
        answer = memoryview(msgspec.json.encode([each for each in found if each is not None]) + b"\n")
        while answer:
            answer = answer[os.write(fd, answer) :]
