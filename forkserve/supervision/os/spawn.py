"""Starts one program with exactly the descriptors, limits and credentials that it shall have, and no others.

Theory of operation. The master has one thread, so plain `fork` is safe, and what the child does before `exec` is
straight Python, in the one order that works: session, descriptors, umask, limits, credentials, working directory, death
signal, signal dispositions, exec. Whatever fails there travels back through a pipe that `exec` closes, so `spawn`
either returns a pid that runs the program, or raises SpawnError and no process is left.

All signals are blocked around the fork. Until `setsid` the child belongs to the master's process group, and until
`exec` it has the master's handlers, which write to the master's own queue: one Ctrl-C would be counted twice there.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from forkserve.errors import ForkserveError
from forkserve.supervision.os.prctl import set_death_signal
from forkserve.supervision.os.programs import NotFoundError, explain, locate
from forkserve.unix.fds import arrange, lower_limit
from forkserve.unix.privileges import Credentials, become

__all__ = ["FIRST_SOCKET", "SpawnError", "SpawnSpec", "Stage", "spawn"]

FIRST_SOCKET = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3): where inherited sockets begin."""

_PATIENCE = 5.0
"""Seconds that the way to `exec` may take; it needs a few thousandths, but a dead network drive must not hold us."""

_RESETTABLE = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Stage(Enum):
    """How far a start had come when it failed; the value completes "cannot ...".

    The program itself is named after it, so each value ends where that fits.
    """

    FIND = "find"
    FORK = "fork for"
    DESCRIPTORS = "hand its descriptors to"
    LIMITS = "set the limits of"
    USER = "change the user of"
    DIRECTORY = "enter the working directory of"
    PREPARE = "prepare"
    EXECUTE = "execute"


class SpawnError(ForkserveError):
    """A program cannot be started: `number` is the errno (0 if there is none), `stage` what was being done."""

    def __init__(self, number: int, stage: Stage, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.stage = stage


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnSpec:
    """All there is to say about a new process; every descriptor that it does not name is closed in the child.

    `sockets` are descriptors of ours, by name; the child has them at 3, 4, 5 ... in this order, and also finds them by
    LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID unless `listen_fds` is false. `fds` are more descriptors, theirs to ours,
    with numbers past those. `stdin`, `stdout`, `stderr` are descriptors of ours, or None for /dev/null. `rlimits` maps
    names such as RLIMIT_NOFILE to the soft and hard limit; -1 is no limit. `death_signal` is sent to the child if the
    master dies; None sends nothing.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    sockets: Mapping[str, int] = field(default_factory=dict)
    listen_fds: bool = True
    fds: Mapping[int, int] = field(default_factory=dict)
    executable: str | None = None
    cwd: str | None = None
    credentials: Credentials | None = None
    umask: int | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)
    stdin: int | None = None
    stdout: int | None = 1
    stderr: int | None = 2
    death_signal: int | None = signal.SIGTERM


def spawn(spec: SpawnSpec) -> int:
    """Start the program and return its pid, which is also its session and process group.

    Raises SpawnError, with no process left, when anything before the program's first instruction fails.
    """
    try:
        program = locate(spec.executable or spec.argv[0], spec.env.get("PATH"), spec.cwd)
    except NotFoundError as error:
        raise SpawnError(error.number, Stage.FIND, str(error)) from None
    master = os.getpid()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _fork(spec, program, master, writing)
    except OSError as error:
        os.close(reading)
        text = f"cannot {Stage.FORK.value} {program!r}: {error.strerror}"
        raise SpawnError(error.errno or 0, Stage.FORK, text) from None
    finally:
        os.close(writing)
    try:
        _await_exec(pid, reading, program)
    finally:
        os.close(reading)
    return pid


def _fork(spec: SpawnSpec, program: str, master: int, report: int) -> int:
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(spec, program, master, report)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _await_exec(pid: int, reading: int, program: str) -> None:
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    if not waiting.poll(_PATIENCE * 1000):
        os.kill(pid, signal.SIGKILL)  # the reaper collects it: here it could keep us waiting still
        text = f"cannot {Stage.EXECUTE.value} {program!r}: not done within {_PATIENCE:g} s"
        raise SpawnError(errno.ETIMEDOUT, Stage.EXECUTE, text)
    report = os.read(reading, 4096)
    if not report:
        return
    os.waitpid(pid, 0)
    stage, number, text = report.decode(errors="surrogateescape").split("\n", 2)
    raise SpawnError(int(number), Stage[stage], text)


def _become(spec: SpawnSpec, program: str, master: int, report: int) -> None:
    """Turn the fork into the program. Runs in the child and never returns."""
    stage = Stage.DESCRIPTORS
    try:
        os.setsid()
        report = arrange(_descriptors(spec), keep=report)
        stage = Stage.LIMITS
        _limit(spec)
        stage = Stage.USER
        if spec.credentials is not None:
            become(spec.credentials)
        stage = Stage.DIRECTORY
        if spec.cwd is not None:  # as the new user: it may be a folder that root cannot enter, on a network drive
            os.chdir(spec.cwd)
        stage = Stage.PREPARE
        if spec.death_signal is not None:
            _die_with(master, spec.death_signal)
        _reset_signals()
        stage = Stage.EXECUTE
        os.execve(program, spec.argv, _environment(spec))
    except BaseException as error:  # noqa: BLE001 - the frames below belong to the master and must not run here
        number = getattr(error, "errno", None) or 0
        text = f"cannot {stage.value} {program!r}: {_reason(stage, spec, program, error)}"
        os.write(report, f"{stage.name}\n{number}\n{text}".encode(errors="surrogateescape")[:4096])
    finally:
        os._exit(127)


def _reason(stage: Stage, spec: SpawnSpec, program: str, error: BaseException) -> str:
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if stage is Stage.EXECUTE:
            return explain(program, error.errno or 0, reason)
        return f"{spec.cwd}: {reason}" if stage is Stage.DIRECTORY else reason
    return str(error) or type(error).__name__


def _descriptors(spec: SpawnSpec) -> dict[int, int]:
    null = os.open(os.devnull, os.O_RDWR)
    wanted = {0: spec.stdin, 1: spec.stdout, 2: spec.stderr}
    theirs = {number: null if ours is None else ours for number, ours in wanted.items()}
    theirs |= dict(enumerate(spec.sockets.values(), FIRST_SOCKET))
    if theirs.keys() & spec.fds.keys():
        raise ValueError(f"two descriptors at the same number in {sorted(spec.fds)}")
    return theirs | dict(spec.fds)


def _limit(spec: SpawnSpec) -> None:
    if spec.umask is not None:
        os.umask(spec.umask)
    lower_limit()
    for name, value in spec.rlimits.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except ValueError as error:  # setrlimit(2) says EPERM, Python says this
            raise PermissionError(errno.EPERM, f"{name}={value}: {error}") from None


def _die_with(master: int, signum: int) -> None:
    set_death_signal(signum)
    if os.getppid() != master:
        os._exit(0)  # the master died before the line above, and nobody is left to be told


def _environment(spec: SpawnSpec) -> dict[str, str]:
    env = dict(spec.env)
    if spec.sockets and spec.listen_fds:
        env["LISTEN_FDS"] = str(len(spec.sockets))
        env["LISTEN_FDNAMES"] = ":".join(spec.sockets)
        env["LISTEN_PID"] = str(os.getpid())
    return env


def _reset_signals() -> None:
    # Ignored signals stay ignored through exec (execve(2)); Python ignores SIGPIPE and SIGXFSZ, nohup ignores SIGHUP.
    # Handlers go too, though exec would reset them: between unblocking and exec they would run in the child.
    for signum in _RESETTABLE:
        if signal.getsignal(signum) is not signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
