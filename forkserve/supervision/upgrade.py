"""Replaces the master by other code in the same process, once that code has shown that it can go on.

Theory of operation. `request` writes the current state and passes it to the new code in a child: that must start, read
the state and the configuration, and report success in time. When nothing is in progress that the state does not
contain, it is written again, as it is by then, and `leave` executes the new code in place of this one. A failure before
that is one event and the error of the completion, and nothing else has changed; a failure after it is undone by the new
code, which executes the old one.

Rules: it does not know what is in the state.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from forkserve.config.handover import REHEARSE
from forkserve.errors import ControlError, ForkserveError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import Event, UpgradeBegun, UpgradeFailed
from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.reexec import sealed
from forkserve.supervision.os.spawn import SpawnRefusal, SpawnSpec
from forkserve.unix.home import enter
from forkserve.wording import reason_in

__all__ = ["PATIENCE", "Upgrader", "can_take_over", "verdict"]

PATIENCE = 30.0
"""Seconds within which the new code must have reported that it can take over."""

SETTLING = 30.0
"""Seconds to wait for a moment that `may_leave` allows; then it leaves all the same."""
_POLL = 0.02
"""Seconds between two checks."""
_BUG = "a bug in forkserve; its log says more"
_FIRST = 3
_LONGEST = 64 * 1024
_YES = "takes over"
_NOT_FOR_IT = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")


def can_take_over(program: str) -> str:
    """Return the line by which new code reports that it can."""
    return json.dumps({_YES: program})


def verdict(output: bytes) -> tuple[str | None, str]:
    """Return the version of the new code if it can take over, else None, and the reason in one line."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and _YES in said:
                return str(said[_YES]), ""
    errors = [line.partition(": error: ")[2] for line in lines if ": error: " in line]
    return None, "; ".join(errors) or (lines[-1] if lines else "")


@dataclass(slots=True)
class _Rehearsal:
    """One try of new code; `pid` is 0 once it was reaped, a descriptor -1 once it was closed."""

    command: tuple[str, ...]
    completion: Completion
    pid: int = 0
    state: int = -1
    report: int = -1
    reading: int = -1
    output: bytearray = field(default_factory=bytearray)
    exit: Exit | None = None
    timer: Timer | None = None


class Upgrader:
    """The upgrade in progress, if there is one.

    `write` returns the state as bytes; `leave` executes a command with it and never returns, or raises; `may_leave`
    tells whether the state contains all that is in progress. They are set by the composition root.
    """

    def __init__(self, loop: Loop, emit: Callable[[Event], None], kernel: Kernel | None = None) -> None:
        self.command: tuple[str, ...] = ()
        """How this program was executed, without its arguments."""
        self.write: Callable[[], bytes] = _nothing_to_write
        self.leave: Callable[[Sequence[str], Completion], None] = _no_way_to_leave
        self.may_leave: Callable[[], bool] = lambda: True
        self._loop = loop
        self._emit = emit
        self._kernel = kernel or Kernel()
        self._current: _Rehearsal | None = None

    def request(self, command: Sequence[str] = (), *, within: float = PATIENCE) -> Completion:
        """Replace this code by what `command` executes, by default the code now installed in the same place.

        The new code completes the completion, or it fails.
        """
        completion = Completion()
        if self._current is not None:
            completion.fail(ControlError("an upgrade is in progress already"))
            return completion
        rehearsal = self._current = _Rehearsal(tuple(command) or self.command, completion)
        self._emit(UpgradeBegun(command=rehearsal.command))
        self._loop.call_later(0.0, lambda: self._try(rehearsal, lambda: self._write(rehearsal)))
        self._loop.call_later(0.0, lambda: self._try(rehearsal, lambda: self._start(rehearsal)))
        late = f"it did not say within {within:g} s that it can take over"
        rehearsal.timer = self._loop.call_later(within, lambda: self._fail(late))
        return completion

    def cancel(self, why: str) -> None:
        """Cancel the upgrade in progress."""
        if self._current is not None:
            self._fail(why)

    def reaped(self, exit_: Exit) -> None:
        """Note that a process has been reaped; it may be that of the new code."""
        current = self._current
        if current is not None and exit_.pid == current.pid:
            current.pid, current.exit = 0, exit_
            self._judge(current)

    def _try(self, rehearsal: _Rehearsal, step: Callable[[], None]) -> None:
        if rehearsal is not self._current:
            return
        with self._barrier():
            try:
                step()
            except (ForkserveError, OSError) as error:
                self._fail(reason_in(error))

    def _write(self, rehearsal: _Rehearsal) -> None:
        rehearsal.state = sealed(self.write())

    def _start(self, rehearsal: _Rehearsal) -> None:
        """Execute the new code, in another turn of the loop than the serialising, which takes time."""
        rehearsal.reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writing, True)
        try:
            enter(os.environ)
            spawned = self._kernel.fork(_spec(rehearsal.command, rehearsal.state, writing))
        finally:
            os.close(writing)
        rehearsal.pid, rehearsal.report = spawned.pid, spawned.report
        self._loop.watch(rehearsal.report, selectors.EVENT_READ, lambda _events: self._reported(rehearsal))
        self._loop.watch(rehearsal.reading, selectors.EVENT_READ, lambda _events: self._heard(rehearsal))

    def _reported(self, rehearsal: _Rehearsal) -> None:
        with self._barrier():
            outcome = self._kernel.outcome(rehearsal.report)
            if outcome is not False:
                self._close_report(rehearsal)
            if isinstance(outcome, SpawnRefusal):
                self._fail(outcome.text)

    def _heard(self, rehearsal: _Rehearsal) -> None:
        with self._barrier():
            portion = os.read(rehearsal.reading, _LONGEST)
            rehearsal.output += portion
            del rehearsal.output[:-_LONGEST]
            if not portion:
                self._close_reading(rehearsal)
                self._judge(rehearsal)

    def _judge(self, rehearsal: _Rehearsal) -> None:
        """Go on when the new code has said everything, and has ended."""
        if rehearsal is not self._current or rehearsal.reading >= 0 or rehearsal.exit is None:
            return
        program, why = verdict(bytes(rehearsal.output))
        if program is None:
            self._fail(why or f"the new code {rehearsal.exit}, and said nothing")
            return
        if rehearsal.timer is not None:
            rehearsal.timer.cancel()
        self._leave(rehearsal, self._loop.now() + SETTLING)

    def _leave(self, rehearsal: _Rehearsal, latest: float) -> None:
        """Leave as soon as that is allowed, and at that instant at the latest."""
        if rehearsal is not self._current:
            return
        if self._loop.now() < latest and not self.may_leave():
            self._loop.call_later(_POLL, lambda: self._leave(rehearsal, latest))
            return
        self._end(rehearsal)
        why = _BUG
        with Barrier(self._emit, "the upgrade"):
            try:
                self.leave(rehearsal.command, rehearsal.completion)
            except (ForkserveError, OSError) as error:
                why = str(error)
        self._failed(rehearsal, why)

    def _fail(self, why: str) -> None:
        rehearsal = self._current
        if rehearsal is not None:
            self._end(rehearsal)
            self._failed(rehearsal, why)

    def _failed(self, rehearsal: _Rehearsal, why: str) -> None:
        failed = UpgradeFailed(reason=why)
        self._emit(failed)
        rehearsal.completion.fail(ControlError(failed.text()))

    def _end(self, rehearsal: _Rehearsal) -> None:
        self._current = None
        if rehearsal.timer is not None:
            rehearsal.timer.cancel()
        self._close_report(rehearsal)
        self._close_reading(rehearsal)
        if rehearsal.state >= 0:
            os.close(rehearsal.state)
            rehearsal.state = -1
        if rehearsal.pid:
            self._kernel.signal_group(rehearsal.pid, signal.SIGKILL)
            self._kernel.signal(rehearsal.pid, signal.SIGKILL)

    def _close_report(self, rehearsal: _Rehearsal) -> None:
        report, rehearsal.report = rehearsal.report, -1
        if report >= 0:
            self._loop.unwatch(report)
            self._kernel.close(report)

    def _close_reading(self, rehearsal: _Rehearsal) -> None:
        reading, rehearsal.reading = rehearsal.reading, -1
        if reading >= 0:
            self._loop.unwatch(reading)
            os.close(reading)

    @contextlib.contextmanager
    def _barrier(self) -> Iterator[None]:
        """Let a bug end the upgrade, and nothing else."""
        is_through = False
        with Barrier(self._emit, "the upgrade"):
            yield
            is_through = True
        if not is_through:
            self._fail(_BUG)


def _spec(command: Sequence[str], state: int, output: int) -> SpawnSpec:
    env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT}
    return SpawnSpec(
        argv=(*command, REHEARSE, str(_FIRST)),
        env=env,
        fds={_FIRST: state},
        stdin=None,
        stdout=output,
        stderr=output,
        death_signal=signal.SIGKILL,
    )


def _nothing_to_write() -> bytes:
    return b""


def _no_way_to_leave(_command: Sequence[str], _completion: Completion) -> None:
    raise ControlError("this master cannot be replaced")
