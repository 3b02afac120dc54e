"""Clients that count, while the storm goes on: each request is answered, or there is an excuse for it.

The excuses, and no others:

- the connection was in a process when the storm killed that one with SIGKILL. Which ones those were is read from /proc
  while the process is stopped, before it is killed. On a Unix socket the kernel does not tell, so there the pid of the
  last answer counts, or a failure in the second after a kill of a worker of that site;
- a kept connection was closed before any byte of an answer came: RFC 9112, section 9.3.1, has the client ask again on
  a new one. Only a process that is about to end may do so;
- the connection was refused, at an address that the storm moves about;
- the connection was reset before any answer, where the storm had the watcher stopped and, at about the same time,
  removed it with its socket. That nobody reads what waits there is what was ordered (docs/operations.md).
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

from tests.storm.stack import Site

__all__ = ["Doom", "Load", "Loss"]

PATIENCE = 30.0
"""Seconds until an answer counts as lost."""
AFTER_A_KILL = 2.0
PAUSE = 0.02
TOGETHER = 5.0
"""Seconds within which a stop and a removal meet: each waits for what is under way."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A request without an answer and without an excuse."""

    at: float
    text: str


@dataclass(slots=True)
class Doom:
    """What was killed: pids, the client ends of TCP connections that were in them, and when a Unix site was hit."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pids: set[int] = field(default_factory=set)
    ends: dict[tuple[str, int], float] = field(default_factory=dict)
    hits: list[tuple[str, float]] = field(default_factory=list)
    stops: list[tuple[str, float]] = field(default_factory=list)
    removals: list[tuple[str, float]] = field(default_factory=list)

    def add(self, pid: int, ends: list[tuple[str, int]], watcher: str) -> None:
        """Note that a process is about to be killed, and the connections in it."""
        with self.lock:
            self.pids.add(pid)
            now = monotonic()
            self.ends.update(dict.fromkeys(ends, now))
            self.hits.append((watcher, now))

    def stop(self, watcher: str) -> None:
        """Note that a watcher is ordered to stop; with an empty name all of them."""
        with self.lock:
            self.stops.append((watcher, monotonic()))

    def remove(self, watcher: str) -> None:
        """Note that the file does not have a watcher any more, nor its socket."""
        with self.lock:
            self.removals.append((watcher, monotonic()))

    def has_willed(self, site: Site, since: float) -> bool:
        """Tell whether nobody was to answer a connection of so long ago: its watcher was both stopped and removed."""
        with self.lock:
            stops = [at for name, at in self.stops if name in ("", site.watcher)]
            removals = [at for name, at in self.removals if name == site.watcher and at > since - TOGETHER]
        return any(abs(stop - removal) < TOGETHER for stop in stops for removal in removals)

    def excuses(self, site: Site, kept: _Kept) -> bool:
        """Tell whether a connection that has failed was in a process that was killed."""
        with self.lock:
            if kept.pid in self.pids:
                return True
            if isinstance(kept.end, tuple):
                return self.ends.get(kept.end, 0.0) >= kept.since
            now = monotonic()
            return any(name == site.watcher and now - at < AFTER_A_KILL for name, at in self.hits)


class _Kept(http.client.HTTPConnection):
    """A connection; `pid` is the process that has answered on it, `end` our end of it."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        super().__init__("storm", timeout=PATIENCE)
        self._address = address
        self.pid = 0
        self.answers = 0
        self.is_answering = False
        self.end: tuple[str, int] | str = ""
        self.since = monotonic()

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._address)
        self.end = self.sock.getsockname()


class _Unreachable(Exception):
    """Nobody listens there."""


class Load:
    """Clients of all sites, each a thread; `counts` has what became of the requests."""

    def __init__(self, sites: list[Site], doom: Doom, seed: int) -> None:
        self.doom = doom
        self.losses: list[Loss] = []
        self.counts: Counter[str] = Counter()
        self.closed_by: list[tuple[float, int]] = []
        self.answered = {site.watcher: 0.0 for site in sites}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(site, kept, random.Random(f"{seed} {site.watcher} {number}")))
            for site in sites
            for number, kept in enumerate((True, True, True, False, False))
        ]

    def start(self) -> None:
        """Have the clients ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the clients finish what they have asked, and wait for it; a second time does nothing."""
        self._end.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _client(self, site: Site, keeps: bool, chance: random.Random) -> None:
        connection: _Kept | None = None
        while not self._end.wait(PAUSE):
            if connection is None or not keeps or chance.random() < 0.02:
                self._drop(connection)
                connection = _Kept(site.address)
            if not self._ask(site, connection, chance):
                connection = None
        self._drop(connection)

    @staticmethod
    def _drop(connection: _Kept | None) -> None:
        if connection is not None:
            connection.close()

    def _ask(self, site: Site, connection: _Kept, chance: random.Random) -> bool:
        """Ask once; False when the connection cannot be used any more."""
        body = b"x" * chance.choice((0, 0, 10, 3000))
        path = "/slow" if chance.random() < 0.05 else "/"
        begun = monotonic()
        try:
            self._exchange(connection, path, body)
        except _Unreachable as error:
            self._count("unreachable" if not site.is_fixed else "lost")
            if site.is_fixed:
                self._lost(site, connection, begun, f"connection refused: {error}")
            connection.close()
            return False
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            self._failed(site, connection, begun, error)
            return False
        self.answered[site.watcher] = monotonic()
        self._count("answered")
        if connection.sock is None:  # Connection: close
            self._count("closed by announcement")
            return False
        return True

    def _exchange(self, connection: _Kept, path: str, body: bytes) -> None:
        if connection.sock is None:
            try:
                connection.connect()
            except TimeoutError:
                raise
            except OSError as error:
                raise _Unreachable(str(error)) from None
        connection.is_answering = False
        connection.request("POST", path, body)
        response = connection.getresponse()
        connection.is_answering = True
        content = response.read()
        pid, _, rest = content.partition(b"\n")
        if response.status != 200 or rest != body:
            raise ValueError(f"answer {response.status} with {content[:100]!r}")
        connection.pid = int(pid)
        connection.answers += 1

    def _failed(self, site: Site, connection: _Kept, begun: float, error: Exception) -> None:
        if self.doom.excuses(site, connection):
            self._count("killed")
            return
        if isinstance(error, ConnectionResetError) and not connection.answers and self.doom.has_willed(site, begun):
            self._count("reset as ordered")
            return
        closed = isinstance(error, (http.client.RemoteDisconnected, ConnectionError))
        if closed and connection.answers and not connection.is_answering:
            self._count("closed between requests")
            with self._lock:
                self.closed_by.append((monotonic(), connection.pid))
            return
        self._count("lost")
        self._lost(site, connection, begun, f"{type(error).__name__}: {error}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _lost(self, site: Site, connection: _Kept, begun: float, text: str) -> None:
        now = monotonic()
        state = f"answer {connection.answers + 1} on {connection.end or site.address}, pid {connection.pid or '?'}"
        with self._lock:
            self.losses.append(Loss(now, f"{site.watcher}: {text} ({state}, after {now - begun:.2f} s)"))
