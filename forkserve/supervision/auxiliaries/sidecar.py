"""A program of forkserve beside the master, a client of the control interface: started, replaced, and ended last.

Rules: supervision does not depend on it. It gets its stop signal when all watchers have stopped, so that it can still
answer clients that wait for that.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forkserve.supervision.events import AuxiliaryFailed, AuxiliaryReplaced, Event
from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.spawn import SpawnError, SpawnRefusal, SpawnSpec
from forkserve.supervision.spawning.command import NOT_INHERITED
from forkserve.unix.socketfiles import remove_dead
from forkserve.wording import reason_in

__all__ = ["SocketFiles", "Sidecar"]

BACKOFF, LONGEST_BACKOFF = 0.5, 60.0
"""Seconds before one that has died early is replaced, doubled each time up to the second value."""
YOUNG = 5.0
"""Seconds of life up to which a death is early."""
PATIENCE = 3.0
"""Seconds from SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class SocketFiles:
    """The sockets that a program has in the file system, and the users that they may belong to, by number."""

    paths: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()

    def remove_dead(self) -> None:
        """Remove those on which no program listens."""
        for path in self.paths:
            remove_dead(path, self.owners)


class Sidecar:
    """Keeps one program running, from `start` to `close`."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        loop: Loop,
        emit: Callable[[Event], None],
        *,
        stdin: int | None = None,
        files: SocketFiles | None = None,
    ) -> None:
        """With `stdin`, a descriptor of the master, it reads that to its end, and outlives the others.

        `files` are removed at the end if it was killed, and could not do so itself.
        """
        self.name = name
        self.pid: int | None = None
        self._argv = tuple(argv)
        self._loop = loop
        self._emit = emit
        self._stdin = stdin
        self._files = files or SocketFiles()
        self._kernel = Kernel()
        self._delay = 0.0
        self._began = 0.0
        self._again_at: float | None = None
        self._timer: Timer | None = None
        self._closing = False

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data: the program outlives an exec of the master."""
        return {
            "name": self.name,
            "argv": list(self._argv),
            "pid": self.pid,
            "delay": self._delay,
            "began": self._began,
            "again_at": self._again_at,
            "closing": self._closing,
            "files": {"paths": list(self._files.paths), "owners": list(self._files.owners)},
        }

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], loop: Loop, emit: Callable[[Event], None], *, stdin: int | None = None
    ) -> Sidecar:
        """Return a sidecar that manages the same program."""
        files = {key: tuple(value) for key, value in data.get("files", {}).items()}
        sidecar = cls(data["name"], data["argv"], loop, emit, stdin=stdin, files=SocketFiles(**files))
        sidecar.pid, sidecar._delay, sidecar._began = data["pid"], data["delay"], data["began"]
        sidecar._closing = data["closing"]
        if data["again_at"] is not None and not sidecar._closing:
            sidecar._start_at(data["again_at"])
        return sidecar

    def start(self) -> None:
        """Start it; a failed start is reported, and tried again later."""
        self._timer = self._again_at = None
        self._began = self._loop.now()
        env = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        try:
            spawned = self._kernel.fork(
                SpawnSpec(argv=self._argv, env=env, stdin=self._stdin, death_signal=self._death_signal)
            )
        except SpawnError as error:
            self._failed(reason_in(error))
            self._again()
            return
        self.pid = spawned.pid
        self._loop.watch(spawned.report, selectors.EVENT_READ, lambda _events: self._reported(spawned.report))

    def reaped(self, pid: int) -> None:
        """Note that a pid has been reaped; if it was this one, it is started again."""
        if pid != self.pid:
            return
        self.pid = None
        if self._closing:
            self._call_off()
            self._files.remove_dead()
            return
        self._again()
        self._emit(AuxiliaryReplaced(auxiliary=self.name, pid=pid, delay=self._delay))

    @property
    def outlives(self) -> bool:
        """Whether it ends when its input does, after all others."""
        return self._stdin is not None

    @property
    def _death_signal(self) -> int | None:
        return None if self.outlives else signal.SIGTERM

    def close(self) -> None:
        """Tell it to end, and make sure that it does; `pid` is None when it has been reaped."""
        if self._closing or self.outlives:
            return
        self._closing = True
        self._call_off()
        if self.pid is not None:
            self._kernel.signal(self.pid, signal.SIGTERM)
            self._timer = self._loop.call_later(PATIENCE, self._kill)
        else:
            self._files.remove_dead()

    def _kill(self) -> None:
        if self.pid is not None:
            self._kernel.signal(self.pid, signal.SIGKILL)

    def _again(self) -> None:
        is_young = self._loop.now() - self._began < YOUNG
        self._delay = min(max(2 * self._delay, BACKOFF), LONGEST_BACKOFF) if is_young else 0.0
        self._start_at(self._loop.now() + self._delay)

    def _start_at(self, instant: float) -> None:
        self._again_at = instant
        self._timer = self._loop.call_at(instant, self.start)

    def _reported(self, report: int) -> None:
        outcome = self._kernel.outcome(report)
        if outcome is False:
            return
        self._loop.unwatch(report)
        self._kernel.close(report)
        if isinstance(outcome, SpawnRefusal):
            self._failed(outcome.text)

    def _failed(self, reason: str) -> None:
        self._emit(AuxiliaryFailed(auxiliary=self.name, reason=reason, effect="tried again later"))

    def _call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
