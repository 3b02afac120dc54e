"""Turns the options of a watcher into what starts one of its processes: words, environment, descriptors, credentials.

Rules: users and groups are looked up once, by `prepare`, since a directory service may be slow; the rest is decided at
each spawn, when the slot is known. A process gets a NOTIFY_SOCKET for itself, never the one
that the master was started with.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from forkserve.config.handover import (
    GRACEFUL_TIMEOUT,
    OWN_QUEUES,
    REFORK,
    REFORK_AFTER,
    SCOREBOARD,
    ZYGOTE,
    ZYGOTE_WID,
    drain_limit,
)
from forkserve.config.model import SocketOptions, WatcherOptions
from forkserve.config.naming import identity_of, slot_values
from forkserve.config.options import options_of
from forkserve.config.placeholders import env_values, expand, sockets_for
from forkserve.config.preloading import command_words, is_preloaded, reforks, worker_arguments
from forkserve.config.values import words
from forkserve.config.virtualenv import read_virtualenv
from forkserve.errors import ConfigError
from forkserve.supervision.os.spawn import FIRST_SOCKET, SpawnSpec
from forkserve.supervision.spawning.handover import Handover, Outputs
from forkserve.unix.home import typed
from forkserve.unix.privileges import Credentials, resolve

__all__ = [
    "NOT_INHERITED",
    "FdFor",
    "Handover",
    "Outputs",
    "ProcessTemplate",
    "credentials_of",
    "mixed_readers",
    "prepare",
]

NOT_INHERITED = frozenset(
    {
        "FDSTORE",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        SCOREBOARD,
        OWN_QUEUES,
        ZYGOTE,
    }
)
"""Variables that systemd, or a master above, has set for the master alone."""

_URL = re.compile(r"fd://(\$\(|\(\()circus\.sockets\.", re.IGNORECASE)
_QUOTING = re.compile(r"[\"'\\]")
_USER_CHANGERS = frozenset(
    (
        "capsh",
        "chpst",
        "doas",
        "gosu",
        "runuser",
        "s6-setuidgid",
        "setpriv",
        "setuidgid",
        "setuser",
        "su",
        "su-exec",
        "sudo",
    )
)
"""Programs that run another one as a user that only they know."""

_RELOADING = frozenset({"--use-reloader", "--reload"})
"""Their flags for development: a broken application waits, however long its repair takes."""

FdFor = Callable[[int, int], int]
"""Returns the master's descriptor of a queue for a slot; raises BindError if there is none."""


_NOTHING = Handover()


@dataclass(frozen=True, slots=True)
class ProcessTemplate:
    """Everything about a watcher's processes that does not depend on the slot."""

    options: WatcherOptions
    sockets: tuple[str, ...]
    """Names, in the order of their descriptors in the child: 3, 4, 5 ..."""
    credentials: Credentials | None
    inherited: Mapping[str, str]
    """The master's environment."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Queues of the pool by the lower-case names of sockets, as of when this was made: it keeps its queues."""
    folder: str = ""
    """Where its processes start, whatever `working_dir` and the folder of the master lead to now; empty: there."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Options that a hook has changed for what is started, by name."""

    @property
    def queues(self) -> tuple[int, ...]:
        """Numbers of the queues that a process can read from."""
        return tuple(self.numbers[name] for name in self.all_sockets if name in self.numbers)

    @property
    def all_sockets(self) -> tuple[str, ...]:
        """Names, in lower case, of all sockets of a process, its standard input included."""
        also = (self.options.stdin_socket,) if self.options.stdin_socket else ()
        return tuple(name.lower() for name in (*self.sockets, *also))

    @property
    def is_on_demand(self) -> bool:
        """True when a connection to one of its sockets starts the processes."""
        return self.options.on_demand and bool(self.all_sockets) and self.options.schedule is None

    @property
    def says_ready(self) -> bool:
        """True for a program that is known to send READY=1, unless it may wait for its source to be repaired first."""
        return self.is_worker and not _RELOADING & set(command_words(self.options))

    @property
    def is_worker(self) -> bool:
        """True for our own worker, which makes its sockets non-blocking."""
        return worker_arguments(command_words(self.options)) is not None

    @property
    def is_preloaded(self) -> bool:
        """True if a zygote forks its processes."""
        return is_preloaded(self.options)

    @property
    def reforks(self) -> bool:
        """True if one of its processes that has served enough requests becomes the next zygote."""
        return reforks(self.options)

    @property
    def changes_user(self) -> bool:
        """True for a program that goes on as another user than the one it is started as."""
        return any(os.path.basename(word.strip("'\"")) in _USER_CHANGERS for word in self.options.cmd.split())

    def may_run_beside(self, former: WatcherOptions, target: int) -> bool:
        """Tell whether its processes may run beside those of the former options, of which `target` are wanted.

        They may if they share sockets of forkserve, or if there are several anyway. A single process that owns a port
        or a folder (a database, a scheduler) would collide with its successor: it is stopped first.
        """
        if former.singleton or self.options.singleton:
            return False
        return bool(self.all_sockets) or max(target, self.options.numprocesses) > 1

    def spec(
        self,
        wid: int,
        fd_for: FdFor,
        outputs: Outputs,
        given: Handover = _NOTHING,
    ) -> SpawnSpec:
        """Return how to start the process of one slot.

        Raises ConfigError if its words cannot be split, or its virtualenv is invalid.
        """
        if self.changes:
            return self._changed.spec(wid, fd_for, outputs, given)
        options, place = self.options, given.place
        memory = FIRST_SOCKET + len(self.sockets) + len(given.stored)
        bell = memory + 1
        env = self._told(wid, given, memory, bell)
        values = self._values(wid, env, given.circus_wid)
        cwd = self.folder or (expand(options.working_dir, values) if options.working_dir else None)
        if cwd is not None and "PWD" in env:
            env["PWD"] = os.path.join(env["PWD"], cwd)
        return SpawnSpec(
            argv=self._argv(values),
            env=env,
            sockets={name: fd_for(self.numbers[name.lower()], wid) for name in self.sockets},
            listen_fds=bool(given.stored) or not self._names_urls,
            stored=tuple((each.name, each.fd) for each in given.stored),
            fds={} if place is None else {memory: place.board.fd, bell: place.board.bell},
            executable=options.executable,
            cwd=cwd,
            tells_folder=True,
            credentials=self.credentials,
            umask=options.umask,
            rlimits={name: _limit(name, value) for name, value in options.rlimits.items()},
            stdin=self._stdin(wid, fd_for),
            stdout=outputs.stdout,
            stderr=outputs.stderr,
            death_signal=options.stop_signal,
        )

    def _stdin(self, wid: int, fd_for: FdFor) -> int | None:
        """Return the descriptor of its standard input; None for /dev/null."""
        options = self.options
        if options.stdin_socket is not None:
            return fd_for(self.numbers[options.stdin_socket.lower()], wid)
        return None if options.close_child_stdin else 0

    def _told(self, wid: int, given: Handover, memory: int, bell: int) -> dict[str, str]:
        """Return the environment of one start: what is configured, and what the master adds.

        `memory` and `bell` are the numbers that the descriptors of the scoreboard have there.
        """
        options, place = self.options, given.place
        env = self._environment(wid, given.circus_wid)
        if options.virtualenv is not None:  # read at each start, since a deploy may replace it
            env |= self._virtualenv(options.virtualenv, env)
        if given.notify_address is not None:
            env["NOTIFY_SOCKET"] = given.notify_address
        if options.watchdog > 0:
            env["WATCHDOG_USEC"] = str(int(options.watchdog * 1e6))
        if place is not None:
            env[SCOREBOARD] = place.variable(memory, bell)
            if given.own_queues:
                env[OWN_QUEUES] = "1"
        return env

    def import_path(self) -> tuple[str, ...]:
        """Return where user code of this watcher is imported from: its PYTHONPATH, and the folder in which it
        starts.
        """
        options, env = self.options, self._environment(1)
        if options.virtualenv is not None:
            with contextlib.suppress(ConfigError):  # each start says so
                env |= self._virtualenv(options.virtualenv, env)
        folders = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
        start = self.folder or expand(options.working_dir or "", self._values(1, env)) or os.curdir
        return (*folders, os.path.abspath(start))

    def probe_of(self, wid: int, circus_wid: int) -> str:
        """Return the readiness probe of the process of a slot (`ready`), placeholders replaced."""
        changed = self._changed
        return expand(self.options.ready or "", changed._values(wid, changed._environment(wid), circus_wid))

    @property
    def _changed(self) -> ProcessTemplate:
        return replace(self, options=replace(self.options, **self.changes), changes={})

    def zygote_spec(self, channel: int, outputs: Outputs, given: Handover) -> SpawnSpec:
        """Return how to start the zygote of its processes, which gets orders on `channel`.

        At the numbers of their descriptors it has /dev/null, so that the application opens its own elsewhere.
        """
        spec = self.spec(ZYGOTE_WID, lambda _queue, _wid: channel, outputs, given)
        number = self._last_number
        fds = {**dict.fromkeys(range(FIRST_SOCKET, number)), number: channel}
        stdin = None if self.options.stdin_socket else spec.stdin
        env = {name: value for name, value in spec.env.items() if name != "WATCHDOG_USEC"}
        return replace(spec, env={**env, ZYGOTE: str(number)}, sockets={}, fds=fds, stdin=stdin)

    @property
    def _last_number(self) -> int:
        """The last number of the descriptors that a process can get from the master."""
        return FIRST_SOCKET + len(self.sockets) + self.options.fdstore_max + 2

    def promotable(self, spec: SpawnSpec, channel: int) -> SpawnSpec:
        """Return the spec of a worker that gets the order to become a zygote on `channel`."""
        number = self._last_number
        return replace(spec, env={**spec.env, REFORK: str(number)}, fds={**spec.fds, number: channel})

    @property
    def _names_urls(self) -> bool:
        """True for a command that has its sockets as fd://N: Gunicorn would open each again by LISTEN_FDS."""
        return _URL.search(f"{self.options.cmd} {self.options.args} {self.options.shell_args or ''}") is not None

    def _argv(self, values: Mapping[str, str]) -> tuple[str, ...]:
        options = self.options
        line = f"{options.cmd} {options.args}".strip()
        try:
            if options.shell:
                more = words(expand(options.shell_args or "", values))
                return ("/bin/sh", "-c", expand(line, values), *more)
            return words(expand(line, values))
        except ValueError as error:
            raise ConfigError(f"{options.name}: cmd {error}") from None

    def _environment(self, wid: int, circus_wid: int = 0) -> dict[str, str]:
        options = self.options
        env: dict[str, str] = {}
        if options.copy_env:
            env = {name: value for name, value in self.inherited.items() if name not in NOT_INHERITED}
            if options.copy_path:
                env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        of_slot = slot_values(options, wid, circus_wid)
        env.update({name: expand(text, of_slot) for name, text in options.env.items()})
        env.update(identity_of(options, wid).variables())
        env[GRACEFUL_TIMEOUT] = drain_limit(options.graceful_timeout)
        if options.refork_after:
            env[REFORK_AFTER] = str(options.refork_after)
        return env

    def _virtualenv(self, folder: str, env: Mapping[str, str]) -> dict[str, str]:
        try:
            found = read_virtualenv(typed(folder, self.inherited), self.options.virtualenv_py_ver)
        except ConfigError as error:
            raise ConfigError(f"virtualenv: {error}") from None
        return found.variables(env)

    def _values(self, wid: int, env: Mapping[str, str], circus_wid: int = 0) -> dict[str, str]:
        options = self.options
        values = {each.name: _text(getattr(options, each.name)) for each in options_of(WatcherOptions)}
        values |= {name.lower(): value for name, value in options.extra.items()}
        values |= {f"rlimits.{name.removeprefix('RLIMIT_').lower()}": str(n) for name, n in options.rlimits.items()}
        values |= {**slot_values(options, wid, circus_wid), "use_fds": _text(options.use_sockets)}
        values |= {f"sockets.{name.lower()}": str(FIRST_SOCKET + n) for n, name in enumerate(self.sockets)}
        # the master's own environment last: what the child sees beats it
        return {**env_values(self.inherited), **env_values(env), **values}


def prepare(
    options: WatcherOptions,
    numbers: Mapping[str, int],
    *,
    inherited: Mapping[str, str],
    credentials: Credentials | None,
) -> ProcessTemplate:
    """Return the command of a watcher; raises ConfigError for wrong quotation.

    `numbers` are the queues of all sockets by name, in the order of the configuration; `credentials` are the result of
    `credentials_of`.
    """
    sockets = sockets_for(options, tuple(numbers))
    by_name = {name.lower(): number for name, number in numbers.items()}
    command = ProcessTemplate(options, sockets, credentials, inherited, by_name)
    line = f"{options.cmd} {options.args}"
    if not options.shell and _QUOTING.search(line):  # nothing else can be wrong, and shlex is slow
        try:
            shlex.split(line)
        except ValueError as error:
            raise ConfigError(f"[watcher:{options.name}] cmd: {error}") from None
    return command


def mixed_readers(commands: Iterable[ProcessTemplate], sockets: Iterable[SocketOptions]) -> list[str]:
    """Return a warning for each socket that our worker makes non-blocking for a program that may block in accept(2)."""
    commands = tuple(commands)
    warnings = []
    for socket in sockets:
        readers = [each for each in commands if socket.name.lower() in each.all_sockets]
        others = [each.options.name for each in readers if not each.is_worker]
        if socket.blocking is None and others and len(others) < len(readers):
            warnings.append(
                f"socket {socket.name}: forkserve-worker makes it non-blocking, for {', '.join(others)} too, where "
                "accept() fails with EAGAIN if it expects to wait: use another socket there, or set blocking = False "
                "if it does not"
            )
    return warnings


def credentials_of(options: WatcherOptions) -> Credentials | None:
    """Look up the user and the group of a watcher; raises ConfigError for one that this machine does not know.

    It blocks for as long as the user directory takes.
    """
    try:
        return resolve(options.uid, options.gid)
    except ConfigError as error:
        raise ConfigError(f"[watcher:{options.name}]: {error}") from None


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _limit(name: str, value: int) -> int:
    """Return a limit that can be set: no limit on open files exceeds that of this process (setrlimit(2))."""
    if name == "RLIMIT_NOFILE" and value == resource.RLIM_INFINITY:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return value
