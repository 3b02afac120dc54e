"""Pauses and maintenance: workers accept nothing for a while, and clients wait in the queue, or get a page.

Theory of operation. In a *pause* the workers hold; the kernel's queue keeps new connections, at most until
`hold_until`. Then the workers resume, or a *responder* sheds: a watcher of one small process on the same sockets that
answers every request with 503. *Maintenance* starts the responder first, and lets the workers hold when it is ready, so
that one or the other always answers; its end reverses the order. The master never handles a request.

Rules: state is in the watchers: `hold_until`, `hold_then`, `maintained`, and the responder, which is `transient`: it is
in no configuration.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from forkserve.config.handover import PAGE, RETRY_AFTER
from forkserve.errors import ControlError
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.events import PauseOver
from forkserve.supervision.jobs.advance import Start
from forkserve.supervision.maintenance.holding import hold
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.spawning.command import ProcessTemplate
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.watcher import Watcher

__all__ = ["Maintenance", "responder_of"]

SUFFIX = ":maintenance"
THREADS = 4
MOST_TRIES = 3
"""Early deaths of a responder after which it is FATAL."""
SHED_RETRY_AFTER = 10
"""Seconds after which a shed client may retry."""
_THEN = {"shed": "get 503", "resume": "are served again"}
_PASSED_ON = frozenset(
    {"--certfile", "--keyfile", "--ca-certs", "--ciphers", "--cert-reqs", "--proxy-protocol", "--proxy-allow-from"}
)
"""Flags of the watcher's own worker that the responder needs to understand its clients."""


def responder_of(command: ProcessTemplate, page: str, retry_after: int, processes: int = 1) -> ProcessTemplate:
    """Return the responder of a watcher: a worker on the same sockets, as the same user, with one page.

    Where each slot has its own queue, it has a process for each, since clients wait in all of them.
    """
    options = command.options
    words = shlex.split(f"{options.cmd} {options.args}")
    program = next(word for word in words if os.path.basename(word) == "forkserve-worker")
    sockets = [word for name in command.sockets for word in ("--fd", f"$(circus.sockets.{name})")]
    line = [program, "-k", "threads", "--threads", str(THREADS), *sockets, *_passed_on(words)]
    wanted = replace(
        options,
        name=f"{options.name}{SUFFIX}",
        cmd=shlex.join([*line, "forkserve.serving.maintenance:application"]),
        args="",
        shell=False,
        numprocesses=processes,
        autostart=False,
        respawn=True,
        max_retry=MOST_TRIES,  # whatever the watcher's is: an unreadable page must be reported
        send_hup=False,
        max_age=0.0,
        drain_delay=0.0,
        preload=False,
        ready=None,
        after=(),
        env={**options.env, PAGE: page, RETRY_AFTER: str(retry_after)},
    )
    return replace(command, options=wanted)


def _passed_on(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, _ = word.partition("=")
        if flag in _PASSED_ON:
            found += [word] if equals or following.startswith("-") else [word, following]
    return found


class Maintenance:
    """The pauses of one master; built from watchers that are in one, it goes on with them."""

    def __init__(self, supervisor: Supervisor, loop: Loop) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._starting: dict[str, tuple[Completion, Completion]] = {}
        """By watcher, what its client waits for, and the start of its responder on which that depends."""
        for watcher in supervisor.watchers:
            if watcher.hold_until is not None:
                self._arm(watcher, watcher.hold_until)

    def to_data(self, completions: CompletionWriter) -> Mapping[str, Sequence[int]]:
        """Return the responders that are starting; everything else is in the watchers."""
        return {name: [completions.number(each) for each in pair] for name, pair in self._starting.items()}

    def restore(self, data: Mapping[str, Sequence[int]], completions: CompletionReader) -> None:
        """Go on from the state of another one."""
        for name, (completion, started) in data.items():
            self._await(self._supervisor.queue(name).watcher, completions[completion], completions[started])

    def pause(self, name: str, *, seconds: float, then: str) -> str:
        """Let workers hold for at most this long, then `shed` or `resume`; returns what was done."""
        watcher = self._watcher(name)
        told = hold(watcher, wid=None, wanted=True)
        watcher.hold_until, watcher.hold_then = self._loop.now() + seconds, then
        self._arm(watcher, watcher.hold_until)
        return f"{told.text()}; clients wait for {seconds:g} s at most, then {_THEN[then]}"

    def resume(self, name: str) -> Completion:
        """End a pause, or maintenance: workers accept again, then the responder stops."""
        watcher = self._watcher(name)
        self._release(watcher)
        return self._dismiss(watcher)

    def begin(self, names: Sequence[str], page: str, retry_after: int) -> Completion:
        """Let responders answer for these watchers, or for all that serve; done when they do."""
        watchers = [self._watcher(name) for name in names] if names else list(self._serving())
        if not watchers:
            raise ControlError("no watcher serves on a socket by forkserve-worker")
        return all_of([self._stand_in(each, page, retry_after) for each in watchers], "maintenance is on")

    def end(self, names: Sequence[str]) -> Completion:
        """Let the workers of these watchers, or of all, accept again; done when the responders have stopped."""
        watchers = [self._watcher(name) for name in names] if names else list(self._maintained())
        for each in watchers:
            self._release(each)
        return all_of([self._dismiss(each) for each in watchers], "maintenance is off")

    def _watcher(self, name: str) -> Watcher:
        watcher = self._supervisor.queue(name).watcher
        if watcher.transient or not (watcher.command.is_worker and watcher.command.sockets):
            raise ControlError(f"{watcher.name} does not serve on a socket by forkserve-worker")
        return watcher

    def _serving(self) -> list[Watcher]:
        every = self._supervisor.watchers
        return [each for each in every if each.command.is_worker and each.command.sockets and not each.transient]

    def _maintained(self) -> list[Watcher]:
        known = {each.name.lower() for each in self._supervisor.watchers}
        return [each for each in self._serving() if each.maintained or f"{each.name}{SUFFIX}".lower() in known]

    def _stand_in(self, watcher: Watcher, page: str, retry_after: int) -> Completion:
        has_slots = self._supervisor.pool.has_slots(watcher.command.queues)
        command = responder_of(watcher.command, page, retry_after, watcher.target if has_slots else 1)
        if watcher.maintained:
            raise ControlError(f"{watcher.name}: maintenance is on already: switch it off first")
        queue = self._supervisor.add(command)
        queue.watcher.transient = True
        completion = Completion()
        self._await(watcher, completion, queue.submit(Start()))
        return completion

    def _await(self, watcher: Watcher, completion: Completion, started: Completion) -> None:
        self._starting[watcher.name] = completion, started
        started.when_done(partial(self._stands, watcher, completion))

    def _stands(self, watcher: Watcher, completion: Completion, started: Completion) -> None:
        """Called when a responder is ready, or cannot be."""
        self._starting.pop(watcher.name, None)
        if started.error is not None:
            with contextlib.suppress(ControlError):
                self._supervisor.remove(f"{watcher.name}{SUFFIX}")
            completion.fail(started.error)
            return
        watcher.maintained = watcher.population.held = True
        watcher.hold_until = None
        with contextlib.suppress(ControlError):  # it does not run, and is held when it does
            hold(watcher, wid=None, wanted=True)
        completion.succeed(f"{watcher.name}: a responder answers")

    def _release(self, watcher: Watcher) -> None:
        watcher.hold_until, watcher.maintained, watcher.population.held = None, False, False
        with contextlib.suppress(ControlError):
            hold(watcher, wid=None, wanted=False)

    def _dismiss(self, watcher: Watcher) -> Completion:
        done = Completion()
        name = f"{watcher.name}{SUFFIX}"
        if name.lower() not in {each.name.lower() for each in self._supervisor.watchers}:
            done.succeed(f"{watcher.name}: accepts again")
        else:
            self._supervisor.remove(name).when_done(lambda _: done.succeed(f"{watcher.name}: accepts again"))
        return done

    def _arm(self, watcher: Watcher, instant: float) -> None:
        self._loop.call_at(instant, partial(self._over, watcher, instant))

    def _over(self, watcher: Watcher, instant: float) -> None:
        """Called when a pause has reached its limit."""
        if watcher.hold_until != instant:
            return
        with Barrier(self._supervisor.emit, f"the end of the pause of {watcher.name}"):
            watcher.hold_until = None
            self._supervisor.emit(PauseOver(watcher=watcher.name, then=watcher.hold_then))
            if watcher.hold_then == "shed":
                self._stand_in(watcher, "", SHED_RETRY_AFTER)
            else:
                self._release(watcher)
        self._supervisor.settle()
