"""Starts one program with exactly the descriptors, limits and credentials that it shall have, and no others.

Theory of operation. The master has one thread, so plain `fork` is safe, and what the child does before `exec` is
straight Python, in the one order that works: session, descriptors, limits, credentials, working directory, death
signal, signal dispositions, exec. Whatever fails there travels back through a pipe that `exec` closes, so `spawn`
either returns a pid that runs the program, or raises SpawnError and has reaped the child.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forkserve.errors import ForkserveError
from forkserve.unix.prctl import set_death_signal
from forkserve.unix.privileges import Credentials, become

__all__ = ["FIRST_SOCKET", "SpawnError", "SpawnSpec", "spawn"]

FIRST_SOCKET = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3): where inherited sockets begin."""

_OWN_PROGRAMS = frozenset({"forkserve", "forkserve-worker", "forkservectl"})


class SpawnError(ForkserveError):
    """A program cannot be started. `number` is the errno."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnSpec:
    """All there is to say about a new process.

    `sockets` are descriptors of ours, by name; the child finds them at 3, 4, 5 ... in this order, also by LISTEN_FDS.
    `stdin`, `stdout`, `stderr` are descriptors of ours, or None for /dev/null. `rlimits` maps names such as
    RLIMIT_NOFILE to a value, soft and hard alike. `death_signal` is sent to the child when the master dies.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    sockets: Mapping[str, int] = field(default_factory=dict)
    executable: str | None = None
    cwd: str | None = None
    credentials: Credentials | None = None
    umask: int | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)
    stdin: int | None = None
    stdout: int | None = 1
    stderr: int | None = 2
    death_signal: int = signal.SIGTERM


def spawn(spec: SpawnSpec) -> int:
    """Start the program and return its pid, which is also its session and process group.

    Raises SpawnError, with no process left, when the fork or anything before the program's first instruction fails.
    """
    program = _find(spec)
    parent = os.getpid()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise SpawnError(f"cannot fork: {error.strerror}", error.errno or 0) from None
    if pid == 0:
        _become(spec, program, parent, writing)
    os.close(writing)
    try:
        report = os.read(reading, 4096)
    finally:
        os.close(reading)
    if report:
        os.waitpid(pid, 0)
        text, number = pickle.loads(report)
        raise SpawnError(text, number)
    return pid


def _find(spec: SpawnSpec) -> str:
    name = spec.executable or spec.argv[0]
    if "/" in name:
        return name if spec.cwd is None or name.startswith("/") else os.path.join(spec.cwd, name)
    for folder in spec.env.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    if name in _OWN_PROGRAMS:  # an environment that was not activated, or a Circus watcher without PATH
        own = Path(sys.executable).parent / name
        if own.exists():
            return str(own)
    where = "on its PATH" if "PATH" in spec.env else "and it has no PATH (copy_env gives it the one of the master)"
    raise SpawnError(f"command {name!r} not found {where}", errno.ENOENT)


def _become(spec: SpawnSpec, program: str, parent: int, report: int) -> None:
    """Turn the fork into the program. Runs in the child and never returns."""
    stage = "set up"
    try:
        os.setsid()
        report = _move_descriptors(spec, report)
        stage = "set the limits of"
        for name, value in spec.rlimits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
        if spec.umask is not None:
            os.umask(spec.umask)
        stage = "change the user of"
        if spec.credentials is not None:
            become(spec.credentials)
        # After the credentials, which a private working directory may need (and which clear the death signal).
        stage = f"enter the directory {spec.cwd!r} for"
        if spec.cwd is not None:
            os.chdir(spec.cwd)
        set_death_signal(spec.death_signal)
        if os.getppid() != parent:
            os._exit(0)  # the master died before the line above: nobody is left to tell
        _reset_signals()
        stage = "execute"
        os.execve(program, spec.argv, _environment(spec))
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        reason = getattr(error, "strerror", None) or str(error)
        os.write(report, pickle.dumps((f"cannot {stage} {program!r}: {reason}", number)))
    finally:
        os._exit(127)


def _move_descriptors(spec: SpawnSpec, report: int) -> int:
    """Put every descriptor at its place, close all others, and return where the report pipe now is.

    All are first copied above their targets, so that no target overwrites a source that is still to be moved.
    """
    null = os.open(os.devnull, os.O_RDWR)
    wanted = [null if fd is None else fd for fd in (spec.stdin, spec.stdout, spec.stderr)]
    wanted += spec.sockets.values()
    above = len(wanted) + 1
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in wanted]
    copied_report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, above)
    for target, source in enumerate(copies):
        os.dup2(source, target, inheritable=True)
    report = len(wanted)
    os.dup2(copied_report, report, inheritable=False)
    os.closerange(report + 1, os.sysconf("SC_OPEN_MAX"))
    return report


def _environment(spec: SpawnSpec) -> dict[str, str]:
    env = dict(spec.env)
    if spec.sockets:
        env["LISTEN_FDS"] = str(len(spec.sockets))
        env["LISTEN_FDNAMES"] = ":".join(spec.sockets)
        env["LISTEN_PID"] = str(os.getpid())
    return env


def _reset_signals() -> None:
    # Python ignores SIGPIPE and SIGXFSZ for itself; exec would hand that on to a program that knows nothing of it.
    for signum in signal.valid_signals():
        if signal.getsignal(signum) not in (signal.SIG_DFL, None):
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
