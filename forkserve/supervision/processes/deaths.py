"""What the end of a process means: the event for the log, and the death that `lifecycle` handles.

Rules: pure functions of a process that was reaped, and of the current options.
"""

from __future__ import annotations

import errno

from forkserve.config.model import WatcherOptions
from forkserve.errors import ForkserveError
from forkserve.supervision.events import ProcessExited, SpawnFailed
from forkserve.supervision.events.process import ProcessLost
from forkserve.supervision.lifecycle import Death, Policy
from forkserve.supervision.os.spawn import SpawnError
from forkserve.supervision.process import Process
from forkserve.wording import human_duration

__all__ = [
    "comes_again",
    "death_of",
    "errno_of",
    "fact_of",
    "failed_start",
    "is_expected",
    "is_transient",
    "policy_of",
    "reason_of",
]

_SHORT_OF = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Errors of a start that say nothing about the program: it is retried until the machine has what it lacks."""

_SOON = 1.0
"""Seconds of running, or after READY=1, before which a death counts as early."""


def fact_of(process: Process, now: float) -> ProcessExited | SpawnFailed:
    """Return the event for a reaped process: it ended, or its program never ran."""
    if process.refusal is not None:
        return SpawnFailed(**process.names(), reason=process.refusal.text)
    assert process.exit is not None
    return ProcessExited(
        **process.names(),
        how=_how(process),
        code=process.exit.code,
        signum=process.exit.signum,
        uptime=now - process.started_at,
    )


def _how(process: Process) -> str:
    if not process.pid:
        return f"got no process: its zygote {process.exit}"
    return "ended" if process.adopted else str(process.exit)


def reason_of(lost: ProcessLost) -> str:
    """Return what a slot says about the loss of its last occupant."""
    if isinstance(lost, ProcessExited):
        return f"{lost.how} after {human_duration(lost.uptime)}"
    return lost.reason if isinstance(lost, SpawnFailed) else lost.text()


def death_of(process: Process, *, was_ready: bool, killed_by_us: bool, runs: int, now: float) -> Death:
    """Return how an occupant was lost; `runs` counts the programs that have run in its slot."""
    if process.refusal is not None:
        return failed_start(process.refusal.number, runs)
    assert process.exit is not None
    since_ready = process.ready_for(now) if process.said_ready else None
    early = now - process.started_at < _SOON or (since_ready is not None and since_ready < _SOON)
    return Death(was_ready, None if killed_by_us else process.exit.signum, early=early)


def is_transient(number: int) -> bool:
    """Tell whether a start failed, by its errno, because the machine is short of something."""
    return number in _SHORT_OF


def failed_start(number: int, runs: int) -> Death:
    """Return the death of a process whose program never ran, for this errno."""
    transient = is_transient(number)
    impossible = not transient and number != errno.ETIMEDOUT and runs == 0
    return Death(was_ready=False, transient=transient, impossible=impossible)


def errno_of(error: ForkserveError | OSError) -> int:
    """Return the errno of a failed start, 0 if there is none."""
    return error.number if isinstance(error, SpawnError) else getattr(error, "errno", None) or 0


def policy_of(options: WatcherOptions) -> Policy:
    """Return how a watcher wants deaths to be handled."""
    return Policy(comes_again(options), options.max_retry, options.backoff, options.backoff_max)


def is_expected(process: Process, options: WatcherOptions) -> bool:
    """Tell whether a process has ended by itself with an exit code after which it is not replaced."""
    return process.exit is not None and not process.is_asked_to_end and process.exit.code in options.exitcodes


def comes_again(options: WatcherOptions) -> bool:
    """Tell whether an ended process is replaced; one of a timer has done its work."""
    return options.respawn and options.schedule is None
