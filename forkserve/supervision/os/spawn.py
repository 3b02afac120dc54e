"""Starts one program with exactly the descriptors, limits and credentials that it should have, and no others.

Theory of operation. The master has one thread, so plain `fork` is safe, and the child runs straight Python before
`exec`, in the one order that works: session, descriptors, umask, limits, credentials, working directory, death signal,
signal dispositions, exec. Finding the program is part of it: the search path may contain a dead network drive. A
failure is reported through a pipe that `exec` closes. So a start has two parts: `fork` returns at once with a pid and
the pipe, and when the pipe is readable `outcome` says whether the program runs. A refused child ends by itself, and is
reaped like any other. `rehearse` makes the child do everything but execute.

All signals are blocked around the fork. Until `setsid` the child belongs to the master's process group, and until
`exec` it has the master's handlers, which write to the master's own queue: one Ctrl-C would be counted twice there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from forkserve.errors import ForkserveError
from forkserve.supervision.os.programs import NotFoundError, explain, locate
from forkserve.unix.fds import arrange, lower_limit
from forkserve.unix.prctl import set_death_signal
from forkserve.unix.privileges import Credentials, become

__all__ = [
    "FIRST_SOCKET",
    "SpawnError",
    "SpawnFolder",
    "SpawnRefusal",
    "SpawnSpec",
    "SpawnStage",
    "Spawned",
    "fork",
    "outcome",
]

FIRST_SOCKET = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3): where inherited sockets begin."""

_FOLDER = b"AT\n"
"""The prefix of the working directory in a report; a zero byte ends it."""
_LONGEST_FOLDER = 2000
"""Most bytes of a reported path, so that a report is read at once even with an error after it."""

_RESETTABLE = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class SpawnStage(Enum):
    """How far a start had come when it failed; the value completes "cannot ...".

    The name of the program follows, so each value ends where that fits.
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

    def __init__(self, number: int, stage: SpawnStage, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.stage = stage


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnSpec:
    """Everything about a new process; every descriptor that it does not name is closed in the child.

    `sockets` are descriptors of ours, by name; the child has them at 3, 4, 5 ... in this order, and also finds them by
    LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID unless `listen_fds` is false; `stored` are more of them, names and
    descriptors, and a name may occur twice. `fds` are more descriptors, theirs to ours, with numbers past those.
    `stdin`, `stdout`, `stderr` are descriptors of ours. Where ours is None, theirs is /dev/null. `rlimits` maps names
    such as RLIMIT_NOFILE to the soft and hard limit; -1 is no limit. `death_signal` is sent to the child if the master
    dies; None sends nothing.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    sockets: Mapping[str, int] = field(default_factory=dict)
    listen_fds: bool = True
    stored: tuple[tuple[str, int], ...] = ()
    fds: Mapping[int, int | None] = field(default_factory=dict)
    executable: str | None = None
    cwd: str | None = None
    tells_folder: bool = False
    credentials: Credentials | None = None
    umask: int | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)
    stdin: int | None = None
    stdout: int | None = 1
    stderr: int | None = 2
    death_signal: int | None = signal.SIGTERM

    @property
    def places(self) -> dict[int, int | None]:
        """All descriptors of the child, theirs to ours, None for /dev/null."""
        standard = {0: self.stdin, 1: self.stdout, 2: self.stderr}
        inherited = (*self.sockets.values(), *(fd for _, fd in self.stored))
        return {**standard, **dict(enumerate(inherited, FIRST_SOCKET)), **self.fds}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what it inherits from FIRST_SOCKET on."""
        return (*self.sockets, *(name for name, _ in self.stored))


@dataclass(frozen=True, slots=True)
class SpawnRefusal:
    """Why a program does not run: `number` is the errno (0 if there is none), `stage` what was being done."""

    number: int
    stage: SpawnStage
    text: str


@dataclass(frozen=True, slots=True)
class SpawnFolder:
    """The working directory of a child that is about to execute its program; the rest of its report follows."""

    path: str


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child on its way to exec; `report` is the pipe for `outcome`, the caller's to close."""

    pid: int
    report: int


def fork(spec: SpawnSpec, *, rehearse: bool = False) -> Spawned:
    """Start a program; the pid is also its session and process group.

    Raises SpawnError, and leaves no process, if there can be no child. With `rehearse` the child ends before exec.
    """
    master = os.getpid()
    try:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _no_child(spec, error) from None
    try:
        pid = _fork(spec, master, writing, rehearse=rehearse)
    except OSError as error:
        os.close(reading)
        raise _no_child(spec, error) from None
    finally:
        os.close(writing)
    return Spawned(pid, reading)


def outcome(report: int) -> SpawnFolder | SpawnRefusal | bool:
    """Read a report: True if the program runs, False while that is open, or the reason why not; possibly preceded by
    its folder.
    """
    try:
        text = os.read(report, 4096)
    except BlockingIOError:
        return False
    if not text:
        return True
    if text.startswith(_FOLDER):
        folder, _, text = text.removeprefix(_FOLDER).partition(b"\0")
        if not text:
            return SpawnFolder(os.fsdecode(folder))
    stage, number, reason = text.decode(errors="surrogateescape").split("\n", 2)
    return SpawnRefusal(int(number), SpawnStage[stage], reason)


def _no_child(spec: SpawnSpec, error: OSError) -> SpawnError:
    text = f"cannot {SpawnStage.FORK.value} {spec.executable or spec.argv[0]!r}: {error.strerror}"
    return SpawnError(error.errno or 0, SpawnStage.FORK, text)


def _fork(spec: SpawnSpec, master: int, report: int, *, rehearse: bool) -> int:
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(spec, master, report, rehearse=rehearse)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become(spec: SpawnSpec, master: int, report: int, *, rehearse: bool) -> None:
    """Turn the fork into the program. Runs in the child and never returns."""
    stage, program = SpawnStage.DESCRIPTORS, spec.executable or spec.argv[0]
    try:
        os.setsid()
        report = arrange(_descriptors(spec), keep=report)
        stage = SpawnStage.FIND
        program = locate(program, spec.env.get("PATH"), spec.cwd)
        stage = SpawnStage.LIMITS
        _limit(spec)
        stage = SpawnStage.USER
        if spec.credentials is not None:
            become(spec.credentials)
        stage = SpawnStage.DIRECTORY
        if spec.cwd is not None:  # as the new user: it may be a folder that root cannot enter, on a network drive
            os.chdir(spec.cwd)
        stage = SpawnStage.PREPARE
        if spec.death_signal is not None:
            set_death_signal(spec.death_signal)
        _refuse_a_dead(master)
        _reset_signals()
        stage = SpawnStage.EXECUTE
        if rehearse:
            _try_out(program)
        if spec.tells_folder:
            _tell_folder(report)
        os.execve(program, spec.argv, _environment(spec))
    except BaseException as error:  # noqa: BLE001 - the frames below belong to the master and must not run here
        number = getattr(error, "errno", None) or getattr(error, "number", 0)
        text = f"cannot {stage.value} {program!r}: {_reason(stage, spec, program, error)}"
        if isinstance(error, NotFoundError):
            text = str(error)
        os.write(report, f"{stage.name}\n{number}\n{text}".encode(errors="surrogateescape")[:4096])
    finally:
        os._exit(127)


def _tell_folder(report: int) -> None:
    with contextlib.suppress(OSError):  # it has been deleted
        folder = os.fsencode(os.getcwd())
        if len(folder) <= _LONGEST_FOLDER:
            os.write(report, _FOLDER + folder + b"\0")


def _try_out(program: str) -> None:
    """End the child with success where exec would succeed, as far as can be known without it; raises OSError."""
    if not os.path.exists(program):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if os.path.isdir(program) or not os.access(program, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    os._exit(0)


def _reason(stage: SpawnStage, spec: SpawnSpec, program: str, error: BaseException) -> str:
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if stage is SpawnStage.EXECUTE:
            return explain(program, error.errno or 0, reason)
        return f"{spec.cwd}: {reason}" if stage is SpawnStage.DIRECTORY else reason
    return str(error) or type(error).__name__


def _descriptors(spec: SpawnSpec) -> dict[int, int]:
    null = os.open(os.devnull, os.O_RDWR)
    wanted = spec.places
    if len(wanted) < FIRST_SOCKET + len(spec.names) + len(spec.fds):
        raise ValueError(f"two descriptors at the same number in {sorted(spec.fds)}")
    return {number: null if ours is None else ours for number, ours in wanted.items()}


def _limit(spec: SpawnSpec) -> None:
    if spec.umask is not None:
        os.umask(spec.umask)
    lower_limit()
    for name, value in spec.rlimits.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except ValueError as error:  # setrlimit(2) says EPERM, Python says this
            raise PermissionError(errno.EPERM, f"{name}={value}: {error}") from None


def _refuse_a_dead(master: int) -> None:
    if os.getppid() != master:
        os._exit(0)  # the master died before the line above; there is no one to notify


def _environment(spec: SpawnSpec) -> dict[str, str]:
    env = dict(spec.env)
    if spec.names and spec.listen_fds:
        env["LISTEN_FDS"] = str(len(spec.names))
        env["LISTEN_FDNAMES"] = ":".join(spec.names)
        env["LISTEN_PID"] = str(os.getpid())
    if "WATCHDOG_USEC" in env:
        env["WATCHDOG_PID"] = str(os.getpid())
    return env


def _reset_signals() -> None:
    # Ignored signals stay ignored through exec (execve(2)); Python ignores SIGPIPE and SIGXFSZ, nohup ignores SIGHUP.
    # Handlers go too, though exec would reset them: between unblocking and exec they would run in the child.
    for signum in _RESETTABLE:
        if signal.getsignal(signum) is not signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
