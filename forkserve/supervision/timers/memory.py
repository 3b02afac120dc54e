"""What timers have run, kept in a file over a restart of the master, so that it knows the last results and tells of the
runs that were missed meanwhile.

Theory of operation. The file is read before anything starts, and written when a run begins or is over, in a forked
child, since a disk may wait; the last time when all has ended, by this process. It is replaced as a whole.

Rules: a file that cannot be read or written is logged, and stops nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from forkserve.supervision.events import AuxiliaryFailed, Event
from forkserve.supervision.os.forkedcall import ForkedCall, call_in_fork
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.snapshot import RunResult
from forkserve.supervision.timers.runs import SAVED
from forkserve.supervision.timers.timer import WatcherTimer

__all__ = ["TimerMemory"]

TIMEOUT = 30.0
"""Seconds that a write may take."""
_SAVED_AT = ("timer.begun", "timer.ended", "timer.missed", "timer.skipped")

NamedTimers = Callable[[], Iterable[tuple[str, WatcherTimer]]]
"""Returns all timers by the names of their watchers."""


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """One timer; the fields are those of `TimerState`."""

    of: str
    handled: float | None
    made: int
    results: list[RunResult]
    counts: dict[str, int]
    last_good: float | None = None


class TimerMemory:
    """One file."""

    def __init__(self, path: str, timers: NamedTimers, loop: Loop, emit: Callable[[Event], None]) -> None:
        self.name = "timers file"
        self.pid: int | None = None
        """The child that writes now."""
        self._path = os.path.abspath(path)
        self._timers = timers
        self._loop = loop
        self._emit = emit
        self._call: ForkedCall[None] | None = None
        self._again = False
        self._written = b""
        self._told = ""

    def start(self) -> None:
        """Read what another master has left, for the timers that have not begun."""
        try:
            # a FIFO is not waited for
            with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                kept = msgspec.json.decode(file.read(), type=dict[str, _Kept])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._failed(getattr(error, "strerror", None) or str(error))
            return
        for name, timer in self._timers():
            state, found = timer.state, kept.get(name)
            if found is None or state.of or state.made:
                continue
            state.of, state.resume, state.made = found.of, found.handled, found.made
            state.results[-SAVED:], state.counts, state.last_good = found.results, found.counts, found.last_good

    def on_event(self, event: Event) -> None:
        """Write the file when a timer has something new."""
        if event.kind in _SAVED_AT:
            self._save()

    def reaped(self, pid: int) -> None:
        """Called with every pid that was reaped."""
        if pid == self.pid:
            self.pid = None
        if self._call is not None:
            self._call.reaped(pid)
        self._go_on()

    def close(self) -> None:
        """Write it for the last time."""
        self._again = False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        data = self._data()
        if data != self._written:
            try:
                _write(self._path, data)
            except OSError as error:
                self._failed(error.strerror or str(error))
            self._written = data

    def _data(self) -> bytes:
        return msgspec.json.encode(dict(self._all())) + b"\n"

    def _all(self) -> Iterator[tuple[str, _Kept]]:
        for name, timer in self._timers():
            state = timer.state
            handled = next((each for each in (state.handled, state.resume, state.left) if each is not None), None)
            if timer.exists and (state.made or handled is not None):
                yield name, _Kept(state.of, handled, state.made, state.results, state.counts, state.last_good)

    def _save(self) -> None:
        if self._call is not None or self.pid is not None:
            self._again = True
            return
        data = self._data()
        writing = partial(_write, self._path, data)
        try:
            self._call = call_in_fork(
                self._loop, writing, partial(self._saved, data), title="forkserve: writes timers_file", timeout=TIMEOUT
            )
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        self.pid = self._call.pid

    def _saved(self, data: bytes, outcome: Exception | None) -> None:
        self._call = None
        if isinstance(outcome, Exception):
            self._failed(getattr(outcome, "strerror", None) or str(outcome))
        else:
            self._written, self._told = data, ""
        self._go_on()

    def _go_on(self) -> None:
        if self._again and self._call is None and self.pid is None:
            self._again = False
            self._save()

    def _failed(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            effect = "what timers have run is forgotten with this master"
            self._emit(AuxiliaryFailed(auxiliary="timers_file", reason=f"{self._path}: {reason}", effect=effect))


def _write(path: str, data: bytes) -> None:
    """Replace a file; raises OSError, with the former file as it was."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
