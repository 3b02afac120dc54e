"""Forks workers on request, each of them a child of the master: the zygote's side of its channel.

Theory of operation. The zygote forks ahead: a *spare*, forked already, waits for the next order, so that no fork lies
between an order and its worker. An order contains the arguments, the environment and the descriptors of a worker
(`forkorder`); the zygote passes it on to the spare. The spare takes its descriptors, sends its number to the master,
which learns the pid from the kernel, and goes on as if it had been executed. When it has had the time to start, the
zygote forks the next spare.

To fork, the zygote forks a child that forks the worker and ends at once, so that the master, a child subreaper
(prctl(2)), inherits the worker. For Python it is one fork: the hooks of `os.register_at_fork` run once, before and
after both. The worker waits at a gate until the intermediate child has been reaped: only then is the master its parent.

A lock that a thread holds during the fork stays locked in the worker. So a zygote has one thread. If a spare dies, or
its zygote does, nothing is lost: it has no work yet. A fork ahead that fails is tried again when it is needed.
"""

from __future__ import annotations

import _socket
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
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from select import POLLHUP, POLLIN, poll
from typing import Any, NoReturn

from forkserve import logs
from forkserve.config.handover import ZYGOTE
from forkserve.errors import ForkserveError, UsageError
from forkserve.serving.forkorder import ForkOrder, Parcel, change_environment, change_words, place, put_null, receive
from forkserve.serving.native import hot
from forkserve.serving.writtenpages import WrittenPages
from forkserve.unix.prctl import set_death_signal

__all__ = ["ForkHooks", "ForkServer", "take_channel"]

log = logging.getLogger("forkserve.worker")

_GO = b"g"
_ENDED = "the process ended before it could report to the master"
_LOOKS = (0.05, 0.2, 1.0, 5.0)
"""Seconds that a spare waits for its order before it checks again whether a sibling has noted its written pages."""
_START = 0.003
"""Seconds in which a worker gets from its order to READY=1 when nothing hinders it. A fork, and what the next spare
writes ahead, take as long, and would compete with it for processors.
"""
_GOODBYE = 1.0
"""Seconds that a spare has to end with its zygote."""
_LONGEST_REASON = 600
"""Characters of a reason: in JSON each takes up to six bytes, and the master reads 4096."""
_ALL_SIGNALS = signal.valid_signals()
# Those of the standard library: gevent replaces them.
_waitpid, _close, _Socket = os.waitpid, os.close, socket.socket


@dataclass(frozen=True, slots=True)
class ForkHooks:
    """`before` is called in the zygote before each fork, and fails it by raising; `after` in each new process."""

    before: Callable[[], object]
    after: Callable[[], object]


class _Spare:
    """The zygote's end of the connection to a forked process without an order."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @property
    def is_there(self) -> bool:
        """Whether it still waits, as far as is known."""
        poller = poll()
        poller.register(self._end, POLLIN)
        return not any(events & (POLLHUP | POLLIN) for _, events in poller.poll(0))

    def open_gate(self) -> None:
        """Let it go on, since the intermediate child has been reaped."""
        with contextlib.suppress(OSError):  # it has ended, which is found out when it is to be handed an order
            self._end.send(_GO)

    def hand_over(self, parcel: Parcel) -> None:
        """Make it the worker that was ordered; raises ForkserveError, or ConnectionError if it is gone."""
        parcel.send(self._end)
        if self._end.recv(1) != _GO:
            raise ForkserveError(_ENDED)

    def close(self) -> None:
        """Close the connection: without an order it ends."""
        self._end.close()

    def end(self) -> None:
        """End it, and wait for that, so that nothing of the zygote is left when that ends."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
            poller = poll()
            poller.register(self._end, POLLIN)
            poller.poll(_GOODBYE * 1000)
        self.close()


def take_channel(environ: MutableMapping[str, str]) -> socket.socket:
    """Return the channel of this process, and hide it from programs that it executes; raises UsageError."""
    text = environ.pop(ZYGOTE, "")
    try:
        return _moved_away(int(text))
    except (ValueError, OSError):
        raise UsageError(f"environment {ZYGOTE}={text}: no socket; a master sets it, for its zygotes alone") from None


def _moved_away(fd: int) -> socket.socket:
    """Return the channel at a higher descriptor, since workers may have another one at its number; raises OSError."""
    channel = _Socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, fd + 1))
    put_null((fd,))
    return channel


class ForkServer:
    """Serves the orders of a master."""

    def __init__(self, channel: socket.socket, environ: MutableMapping[str, str], hooks: ForkHooks) -> None:
        self._channel = channel
        self._environ = environ
        self._hooks = hooks
        self._given: Mapping[str, str] = dict(environ)
        """The environment before the application could change it."""
        self._handlers: dict[int, Any] = {}
        self._mask: set[signal.Signals] | set[int] = set()
        self._spare: _Spare | None = None
        self._zygote: socket.socket | None = None
        """In a forked process, its end of the connection to the zygote."""
        self._taken: tuple[int, ...] = ()
        """The descriptors that this process got as a worker."""
        self.pages = WrittenPages()

    def renew(self, channel: int) -> None:
        """Go on in a worker that has become a zygote, with orders on `channel`; raises OSError."""
        self._channel = _moved_away(channel)
        put_null([number for number in self._taken if number > 2])
        self.pages.close()
        self.pages = WrittenPages()

    def announce(self) -> None:
        """Announce that this process, a worker until now, forks from now on; raises OSError."""
        self._say({"number": 0})

    def serve(self) -> ForkOrder:
        """Fork workers until there are no more orders, then end the process; returns in each worker."""
        self._install_handlers()
        while True:
            if self._fork_ahead():
                return self._live_as_spare()
            parcel = receive(self._channel)
            if parcel is None:
                self._end()
            try:
                forked = self._deliver(parcel)
            except Exception as error:  # noqa: BLE001 - the hook is the user's, and costs this worker only
                self._refuse(parcel.number, error)
                forked = False
            finally:
                parcel.close()
            if forked:
                return self._live_as_spare()
            self._let_start()

    def _let_start(self) -> None:
        """Leave the processors to the new worker; an order ends the wait."""
        poller = poll()
        poller.register(self._channel, POLLIN)
        poller.poll(_START * 1000)

    def _fork_ahead(self) -> bool:
        """Fork a spare if there is none; True in the spare. If that fails, the next order reports it."""
        if self._spare is not None and self._spare.is_there:
            return False
        self._drop_spare()
        try:
            return self._fork()
        except Exception:  # noqa: BLE001 - the hook is the user's
            return False

    def _deliver(self, parcel: Parcel) -> bool:
        """Pass an order to a spare, forked now if there is none; True in a process that was forked for it.

        Raises ForkserveError or OSError.
        """
        if self._spare is not None and self._spare.is_there:
            with contextlib.suppress(ConnectionError):
                self._hand_over(parcel)
                return False
        self._drop_spare()
        if self._fork():
            return True
        try:
            self._hand_over(parcel)
        except ConnectionError:
            raise ForkserveError(_ENDED) from None
        return False

    def _hand_over(self, parcel: Parcel) -> None:
        assert self._spare is not None
        try:
            self._spare.hand_over(parcel)
        finally:
            self._drop_spare()

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
        self._spare = None

    def _install_handlers(self) -> None:
        actions: Mapping[int, Any] = {
            signal.SIGTERM: lambda *_: self._end(),
            signal.SIGQUIT: lambda *_: self._end(),
            signal.SIGINT: lambda *_: self._end(),
            signal.SIGHUP: signal.SIG_IGN,
            signal.SIGUSR1: lambda *_: logs.reopen(),
            # Ignored, or waited for by a handler of the application, our children would be gone before we ask for
            # their status (wait(2)).
            signal.SIGCHLD: signal.SIG_DFL,
        }
        for number, action in actions.items():
            before = signal.signal(number, action)
            self._handlers[number] = signal.SIG_DFL if before is None else before
        signal.pthread_sigmask(signal.SIG_UNBLOCK, actions)

    def _end(self) -> NoReturn:
        # What the application has registered for the end is the workers' to do, and has nothing to end here.
        _flush()
        if self._spare is not None:
            self._spare.end()
        os._exit(0)

    def _refuse(self, number: int, error: Exception) -> None:
        code = (error.errno or 0) if isinstance(error, OSError) else 0
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        self._say({"number": number, "error": f"cannot be forked: {reason}", "errno": code})

    def _say(self, message: Mapping[str, object]) -> None:
        self._channel.send(json.dumps(message).encode())

    def _fork(self) -> bool:
        """Fork a spare; True in it, where all signals are blocked. Raises what the hook does, or OSError."""
        self._hooks.before()
        _flush()
        ours, theirs = (
            _Socket(fileno=end.detach()) for end in _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        )
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        pid = fork_twice()
        if pid == 0:
            self._mask, self._zygote = mask, theirs
            ours.close()
            return True
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self._spare = _Spare(ours)
        try:
            if pid < 0:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            _, status = _waitpid(pid, 0)
            number = os.waitstatus_to_exitcode(status)
            if number != 0:
                raise OSError(max(number, 0), os.strerror(max(number, 0)))
            self._spare.open_gate()
        except BaseException:
            self._drop_spare()
            raise
        return False

    def _live_as_spare(self) -> ForkOrder:
        """Wait for the order, and become that worker; ends the process if there will be none."""
        zygote = self._zygote
        assert zygote is not None
        # A zygote that has died meanwhile has not reported this process.
        if zygote.recv(1) != _GO:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self._hooks.after()
        parcel = self._await_parcel(zygote)
        if parcel is None:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        order = parcel.open()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._become(order, fcntl.fcntl(zygote.detach(), fcntl.F_DUPFD_CLOEXEC, order.above))
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return order

    def _await_parcel(self, zygote: socket.socket) -> Parcel | None:
        """Write ahead to the pages that a worker writes to, as soon as they are known, and wait for the order."""
        poller = poll()
        poller.register(zygote, POLLIN)
        for seconds in _LOOKS:
            if self.pages.is_known or poller.poll(seconds * 1000):
                break
        if not poller.poll(0):
            self.pages.write_ahead()
        return receive(zygote)

    def _become(self, order: ForkOrder, telling: int) -> None:
        """Turn the fork into the ordered worker, and report it to the master, then by `telling` to the zygote."""
        try:
            os.setsid()
            place(order)
            self._given = change_environment(self._environ, order, self._given)
            self._taken = (*order.targets, *order.empty)
            change_words(order.argv)
            self._say({"number": order.number})
            os.write(telling, _GO)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._refuse(order.number, error)
            os._exit(1)
        self._channel.close()
        _close(telling)
        if order.death_signal is not None:
            set_death_signal(order.death_signal)
        if os.getppid() != order.master:
            os._exit(0)


def fork_twice() -> int:
    """Fork a grandchild, for Python in one fork; returns 0 in it, and the pid of the child, or -1, in the caller.

    The child ends at once, with the errno of the second fork if that has failed. In the compiled part it shares our
    memory and costs nothing; without that both forks copy the page tables.
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


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue
