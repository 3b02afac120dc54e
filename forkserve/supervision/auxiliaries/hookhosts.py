"""The processes that hooks run in, one for each watcher with hooks, from its start to its stop.

Theory of operation. A host is a program of forkserve that imports user code, which the master never does. It is called
over a socket, with a line of JSON in each direction, one call at a time, each with a deadline: a host that does not
answer is killed, and the next call starts another. A hook that crashes, or ends the whole process, is an answer too.
EOF of the socket ends the host, so none outlives the master.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from forkserve.config.hooks import changed_options
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import Event
from forkserve.supervision.hooks.call import HookAnswer, HookCall
from forkserve.supervision.os.kernel import Kernel
from forkserve.supervision.os.loop import Loop, Timer
from forkserve.supervision.os.spawn import FIRST_SOCKET, SpawnError, SpawnRefusal, SpawnSpec
from forkserve.supervision.spawning.command import NOT_INHERITED

__all__ = ["HookHost", "HookHosts", "HostWords"]

LONGEST = 1024 * 1024
"""Most bytes of an answer."""
PATIENCE = 3.0
"""Seconds for a host to end by itself when everything ends."""

_AGAIN = 0.1
"""Seconds until an answer is handed on once more that a bug has kept from being taken."""

HostWords = Callable[[], tuple[str, ...]]
"""Returns what every host gets on its command line: where control is, and where to log."""

Then = Callable[[HookAnswer], None]


class HookHost:
    """One process, started by its first call; `on_end` is called when it has been reaped, or never began."""

    def __init__(self, watcher: str, loop: Loop, emit: Callable[[Event], None], on_end: Callable[[HookHost], None]):
        self.name = f"hooks of {watcher}"
        self.watcher = watcher
        self.pid: int | None = None
        self.is_over = False
        """Whether it accepts no more calls."""
        self._loop = loop
        self._emit = emit
        self._on_end = on_end
        self._kernel = Kernel()
        self._channel: socket.socket | None = None
        self._report = -1
        self._then: Then | None = None
        self._timer: Timer | None = None
        self._said = bytearray()

    def start(self) -> None:
        """Do nothing: `begin` starts it."""

    def begin(self, words: tuple[str, ...]) -> None:
        """Start it; raises SpawnError or OSError."""
        ours, theirs = socket.socketpair()
        with contextlib.closing(theirs):
            argv = (sys.executable, "-P", "-m", "forkserve.sidecars.hooks", "--channel", str(FIRST_SOCKET))
            env = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
            spec = SpawnSpec(
                argv=(*argv, "--watcher", self.watcher, *words), env=env, fds={FIRST_SOCKET: theirs.fileno()}
            )
            try:
                spawned = self._kernel.fork(spec)
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self.pid, self._channel, self._report = spawned.pid, ours, spawned.report
        self._loop.watch(spawned.report, selectors.EVENT_READ, self._reported)
        self._loop.watch(ours.fileno(), selectors.EVENT_READ, self._heard)

    def ask(self, call: HookCall, then: Then) -> None:
        """Make a call; the one before must have been answered."""
        self._then = then
        question = {"hook": call.hook, "targets": call.targets, "path": call.path, "details": call.details}
        late = f"no answer within {call.timeout:g} s (hook_timeout)"
        self._timer = self._loop.call_later(call.timeout, partial(self._fail, late))
        assert self._channel is not None
        try:
            self._channel.sendall(json.dumps(question).encode() + b"\n")
        except OSError as error:
            self._loop.call_later(0.0, partial(self._fail, f"its process cannot be asked: {error.strerror}"))

    def reaped(self, pid: int) -> None:
        """Called with every pid that was reaped."""
        if pid == self.pid:
            self.pid = None
            self._fail("its process has ended")
            self._on_end(self)

    def close(self) -> None:
        """Let it end; what it has not answered stays open."""
        self.is_over, self._then = True, None
        self._call_off()
        self._hang_up()
        if self.pid is not None:
            self._timer = self._loop.call_later(PATIENCE, self._kill)

    def _reported(self, _events: int) -> None:
        outcome = self._kernel.outcome(self._report)
        if outcome is False:
            return
        self._loop.unwatch(self._report)
        self._kernel.close(self._report)
        if isinstance(outcome, SpawnRefusal):
            self._fail(outcome.text)

    def _heard(self, _events: int) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said += data
        if not data or len(self._said) > LONGEST:
            self._fail("its process has ended" if not data else "its answer is too long")
        elif self._said.endswith(b"\n"):
            answer, self._said = bytes(self._said), bytearray()
            self._answer(_read(answer))

    def _fail(self, reason: str) -> None:
        """Answer for a host that cannot, and kill what is left of it."""
        self.is_over = True
        self._hang_up()
        self._kill()
        self._answer(HookAnswer(said=False, error=reason))

    def _answer(self, answer: HookAnswer) -> None:
        self._call_off()
        then, self._then = self._then, None
        if then is not None:
            self._pass_on(then, answer)

    def _pass_on(self, then: Then, answer: HookAnswer, *, again: bool = True) -> None:
        """Hand on an answer, and once more a moment later when a bug has come in between: somebody waits for it."""
        is_taken = False
        with Barrier(self._emit, f"an answer of the {self.name}"):
            then(answer)
            is_taken = True
        if again and not is_taken:
            self._loop.call_later(_AGAIN, partial(self._pass_on, then, answer, again=False))

    def _kill(self) -> None:
        if self.pid is not None:
            self._kernel.signal(self.pid, signal.SIGKILL)

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HookHosts:
    """All hosts, by watcher. `keep` and `dismiss` tell others about a process beside the master."""

    def __init__(
        self, loop: Loop, emit: Callable[[Event], None], keep: Callable[[Any], None], dismiss: Callable[[Any], None]
    ):
        self.words: HostWords = tuple
        self._loop = loop
        self._emit = emit
        self._keep = keep
        self._dismiss = dismiss
        self._hosts: dict[str, HookHost] = {}

    def call(self, call: HookCall, then: Then) -> None:
        """Call a hook, in a process that begins with the start of its watcher, and ends with its stop."""
        host = self._hosts.get(call.watcher)
        if host is None or host.is_over or call.hook == "before_start":
            if host is not None:
                host.close()
            host = self._hosts[call.watcher] = HookHost(call.watcher, self._loop, self._emit, self._ended)
            try:
                host.begin(self.words())
            except (SpawnError, OSError) as error:
                host.is_over = True
                failed = HookAnswer(said=False, error=f"its process cannot be started: {error}")
                self._loop.call_later(0.0, lambda: then(failed))
                return
            self._keep(host)
        host.ask(call, partial(self._answered, host, call.hook, then))

    def _answered(self, host: HookHost, hook: str, then: Then, answer: HookAnswer) -> None:
        if hook == "after_stop":
            host.close()
        then(answer)

    def _ended(self, host: HookHost) -> None:
        self._dismiss(host)
        if self._hosts.get(host.watcher) is host:
            del self._hosts[host.watcher]


def _read(line: bytes) -> HookAnswer:
    try:
        data = json.loads(line)
        changes = changed_options(data.get("changes") or {})
        return HookAnswer(said=bool(data["said"]), error=str(data["error"]), stats=data.get("stats"), changes=changes)
    except (ValueError, TypeError, KeyError):
        return HookAnswer(said=False, error="its process has sent an invalid answer")
