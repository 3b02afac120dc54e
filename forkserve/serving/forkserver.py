"""Forks workers on request, each of them a child of the master: the zygote's side of its channel.

Theory of operation. An order names the words, the environment and the descriptors of a worker. The zygote forks a child
that forks the worker and ends at once, so that the master, which is a child subreaper (prctl(2)), inherits the worker.
For Python it is one fork: the hooks of `os.register_at_fork` run once, before and after both. The worker waits at a
gate until the child between has been reaped, since only then the master is its parent; it takes its descriptors, says
its number to the master, which learns the pid from the kernel, and goes on as one that was executed.

What is held by a thread when the fork happens stays held in the worker. So a zygote has one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from forkserve import logs
from forkserve.config.handover import ZYGOTE
from forkserve.errors import ForkserveError, UsageError
from forkserve.serving.native import hot
from forkserve.unix.prctl import set_death_signal

__all__ = ["ForkOrder", "ForkServer", "take_channel"]

log = logging.getLogger("forkserve.worker")

_MOST_DESCRIPTORS = 254
_GO = b"g"
_OURS = ("FORKSERVE_", "NOTIFY_", "LISTEN_", "WATCHDOG_")
"""How variables begin that a worker takes out of its environment."""
# Those of the standard library: gevent replaces them.
_waitpid, _close, _Socket = os.waitpid, os.close, socket.socket


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """What a worker is to be. `env` is its whole environment, `targets` where its descriptors go, in their order."""

    number: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    sockets: tuple[str, ...]
    targets: tuple[int, ...]
    empty: tuple[int, ...]
    master: int
    death_signal: int | None
    descriptors: tuple[int, ...]


def take_channel(environ: MutableMapping[str, str]) -> socket.socket:
    """Return the channel of this process, and hide it from whatever it executes; raises UsageError."""
    text = environ.pop(ZYGOTE, "")
    try:
        return _moved_away(int(text))
    except (ValueError, OSError):
        raise UsageError(f"environment {ZYGOTE}={text}: no socket; a master sets it, for its zygotes alone") from None


def _moved_away(fd: int) -> socket.socket:
    """Return the channel at a higher descriptor, since workers may have something else at its own; raises OSError."""
    channel = _Socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, fd + 1))
    _put_null((fd,))
    return channel


def _put_null(numbers: Collection[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in numbers:
        if number != null:
            os.dup2(null, number, inheritable=False)
    if null not in numbers:
        _close(null)


class ForkServer:
    """Serves the orders of a master; `before_fork` is called before each fork, and fails it by raising."""

    def __init__(
        self, channel: socket.socket, environ: MutableMapping[str, str], before_fork: Callable[[], object]
    ) -> None:
        self._channel = channel
        self._environ = environ
        self._before_fork = before_fork
        self._given = dict(environ)
        """The environment before the application could change it."""
        self._handlers: dict[int, Any] = {}
        self._telling = -1
        """In a new worker, where it says that the master has been told of it."""
        self._taken: tuple[int, ...] = ()
        """Where this process has what it was given as a worker."""

    def renew(self, channel: int) -> None:
        """Go on in a worker that has become a zygote, and is asked on `channel`; raises OSError."""
        self._channel = _moved_away(channel)
        _put_null([number for number in self._taken if number > 2])

    def announce(self) -> None:
        """Say that this process, a worker until now, forks from now on; raises OSError."""
        self._say({"number": 0})

    def serve(self) -> ForkOrder:
        """Fork workers until there are no more orders, where the process ends; returns in each worker."""
        self._install_handlers()
        while True:
            order = self._next_order()
            if order is None:
                self._end()
            try:
                self._before_fork()
                forked = self._fork(order)
            except Exception as error:  # noqa: BLE001 - the hook is the user's, and costs this worker only
                self._refuse(order, error)
                forked = False
            if forked:
                self._become(order)
                return order
            for fd in order.descriptors:
                _close(fd)

    def _install_handlers(self) -> None:
        actions: Mapping[int, Any] = {
            signal.SIGTERM: lambda *_: self._end(),
            signal.SIGQUIT: lambda *_: self._end(),
            signal.SIGINT: lambda *_: self._end(),
            signal.SIGHUP: signal.SIG_IGN,
            signal.SIGUSR1: lambda *_: logs.reopen(),
        }
        for number, action in actions.items():
            before = signal.signal(number, action)
            self._handlers[number] = signal.SIG_DFL if before is None else before
        signal.pthread_sigmask(signal.SIG_UNBLOCK, actions)

    def _end(self) -> NoReturn:
        # What the application has registered for the end is the workers' to do, and has nothing to end here.
        _flush()
        os._exit(0)

    def _next_order(self) -> ForkOrder | None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 64, _MOST_DESCRIPTORS)
        except ConnectionError:
            return None
        if not data:
            return None
        memory, *others = descriptors
        with open(memory, "rb") as file:
            said = json.load(file)
        return ForkOrder(
            int(data),
            tuple(said["argv"]),
            said["env"],
            tuple(said["sockets"]),
            tuple(said["targets"]),
            tuple(said["empty"]),
            said["master"],
            said["death_signal"],
            tuple(others),
        )

    def _refuse(self, order: ForkOrder, error: Exception) -> None:
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        self._say({"number": order.number, "error": f"cannot be forked: {error}", "errno": number})

    def _say(self, message: Mapping[str, object]) -> None:
        self._channel.send(json.dumps(message).encode()[:4096])

    def _fork(self, order: ForkOrder) -> bool:
        """Fork a worker; True in the worker, which is the master's child by then. Raises ForkserveError or OSError."""
        _flush()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        told, telling = os.pipe2(os.O_CLOEXEC)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = fork_twice()
        if pid == 0:
            _close(writing)
            _close(told)
            self._wait_at(reading)
            self._telling = fcntl.fcntl(telling, fcntl.F_DUPFD_CLOEXEC, _above(order))
            _close(telling)
            self._restore_handlers()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return True
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            _close(reading)
            _close(telling)
            if pid < 0:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            _, status = _waitpid(pid, 0)
            number = os.waitstatus_to_exitcode(status)
            if number != 0:
                raise OSError(max(number, 0), os.strerror(max(number, 0)))
            os.write(writing, _GO)
            if os.read(told, 1) != _GO:
                raise ForkserveError("the process ended before it could report to the master")
        finally:
            _close(writing)
            _close(told)
        return False

    def _wait_at(self, gate: int) -> None:
        """Wait until the child between has been reaped; a zygote that has died meanwhile has told nobody of us."""
        if os.read(gate, 1) != _GO:
            os._exit(0)
        _close(gate)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _become(self, order: ForkOrder) -> None:
        """Turn the fork into the worker that was ordered, and tell the master of it."""
        try:
            os.setsid()
            _place(order)
            self._change_environment(order)
            _change_words(order.argv)
            self._say({"number": order.number})
            os.write(self._telling, _GO)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._refuse(order, error)
            os._exit(1)
        self._channel.close()
        _close(self._telling)
        if order.death_signal is not None:
            set_death_signal(order.death_signal)
        if os.getppid() != order.master:
            os._exit(0)

    def _change_environment(self, order: ForkOrder) -> None:
        """Change what differs from the zygote's, and leave what the application has set."""
        env = dict(order.env)
        if order.sockets:
            env["LISTEN_FDS"] = str(len(order.sockets))
            env["LISTEN_FDNAMES"] = ":".join(order.sockets)
            env["LISTEN_PID"] = str(os.getpid())
        if "WATCHDOG_USEC" in env:
            env["WATCHDOG_PID"] = str(os.getpid())
        for name in self._given.keys() - env.keys():
            self._environ.pop(name, None)
        for name, value in env.items():
            if self._given.get(name) != value or name.startswith(_OURS):
                self._environ[name] = value
        self._given, self._taken = env, (*order.targets, *order.empty)


def _change_words(argv: Sequence[str]) -> None:
    """Have the arguments be those of the worker: a placeholder may stand for its number."""
    count = len(sys.argv) - 1
    sys.argv[1:] = argv[len(argv) - count :]
    sys.orig_argv[len(sys.orig_argv) - count :] = sys.argv[1:]


def fork_twice() -> int:
    """Fork a grandchild, for Python in one fork; returns 0 in it, and the pid of the child, or -1, in the caller.

    The child ends at once, by the errno of the second fork if that has failed. Compiled, it shares our memory and costs
    nothing; without that both forks copy the page tables.
    """
    if hot is not None:
        try:
            return int(hot.fork_orphan())
        except OSError:
            return -1
    fork = ctypes.PyDLL(None, use_errno=True).fork
    leave = os._exit
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = fork()
    if pid == 0:
        worker = fork()
        if worker != 0:
            leave(0 if worker > 0 else errno.EAGAIN)
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def _above(order: ForkOrder) -> int:
    """Return a number above all that descriptors of the worker go to."""
    return max((*order.targets, *order.empty), default=2) + 1


def _place(order: ForkOrder) -> None:
    """Put each descriptor where it belongs, and leave alone what the application has opened."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    wanted = {**dict(zip(order.targets, order.descriptors, strict=True)), **dict.fromkeys(order.empty, null)}
    above = _above(order)
    copies = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for target, fd in wanted.items()}
    for fd in (*order.descriptors, null):
        _close(fd)
    for target, fd in copies.items():
        os.dup2(fd, target, inheritable=True)
        _close(fd)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue
