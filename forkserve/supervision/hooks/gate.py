"""What a watcher must ask its hooks before it goes on, and tell them afterwards.

Theory of operation. Calls are queued and made one after the other, as Circus calls hooks: a hook before the signals of
a stop has returned when they are sent. A call without a hook passes when its turn comes, so without hooks nothing ever
waits. `phase` is where a watcher is between start and stop: `before_start` comes before the first process,
`after_start` after the last that became ready, `after_stop` after the last that has ended.

Rules: each answer is certain to arrive, since the host has a deadline. An answer that arrives after a stop is ignored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Protocol

from forkserve.config.hooks import ALWAYS_IGNORED, Hook, hooks_of
from forkserve.config.model import WatcherOptions
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.events import Event, HookFailed, HookSucceeded
from forkserve.supervision.hooks.call import CallHook, HookAnswer, HookCall

__all__ = ["GatePhase", "GateOwner", "HookGate"]


class GatePhase(Enum):
    """Where a watcher is between its start and its stop."""

    DOWN = "down"
    ASKING_START = "asking before_start"
    SPAWNING = "spawning"
    ASKING_STARTED = "asking after_start"
    UP = "up"
    STOPPING = "stopping"
    ASKING_STOPPED = "asking after_stop"


_LIFTED = (GatePhase.SPAWNING, GatePhase.ASKING_STARTED, GatePhase.UP)
_ASKED_AGAIN = {
    GatePhase.ASKING_START: GatePhase.DOWN,
    GatePhase.ASKING_STARTED: GatePhase.SPAWNING,
    GatePhase.ASKING_STOPPED: GatePhase.STOPPING,
}
"""The phases in which a program goes on after an upgrade, without knowing of the pending call."""


class Changing(Protocol):
    """What the processes of a watcher are made of, as far as a hook may change it."""

    def change(self, changes: Mapping[str, Any]) -> None:
        """Start processes with these options in place of those that are configured."""


class GateOwner(Protocol):
    """What a gate knows about its watcher."""

    @property
    def options(self) -> WatcherOptions:
        """The current options."""

    @property
    def templates(self) -> Changing:
        """What its processes are made of."""

    def import_path(self) -> tuple[str, ...]:
        """Return the folders that its hooks are imported from."""

    def may_start(self) -> None:
        """Called when before_start has consented."""

    def veto(self, reason: str) -> None:
        """Called when a hook has forbidden it to run."""

    def gate_moved(self) -> None:
        """Called after each answer."""


def _ignore(_consented: bool) -> None:
    """Ignore an answer."""


@dataclass(frozen=True, slots=True)
class _Question:
    hook: str
    then: Callable[[bool], None] = _ignore
    details: Mapping[str, Any] = field(default_factory=dict)
    raw: Callable[[HookAnswer], None] | None = None


class HookGate:
    """The gate of one watcher."""

    def __init__(self, call: CallHook, emit: Callable[[Event], None], owner: GateOwner) -> None:
        self.phase = GatePhase.DOWN
        self._call = call
        self._emit = emit
        self._owner = owner
        self._line: deque[_Question] = deque()
        self._asked: _Question | None = None
        self._written: Mapping[str, str] = {}
        self._hooks: dict[str, Hook] = {}
        self._life = 0

    @property
    def hooks(self) -> dict[str, Hook]:
        """The hooks that are configured."""
        written = self._owner.options.hooks
        if written is not self._written:
            self._written, self._hooks = written, hooks_of(written)
        return self._hooks

    @property
    def is_passed(self) -> bool:
        """True when a watcher that runs has been let through."""
        return self.phase is GatePhase.UP or not self.hooks

    @property
    def is_closed(self) -> bool:
        """True when nothing is left to be asked of a watcher that has stopped."""
        return self.phase not in (GatePhase.STOPPING, GatePhase.ASKING_STOPPED)

    @property
    def is_concerned(self) -> bool:
        """True if a call may have to wait."""
        return bool(self.hooks or self._line or self._asked)

    @property
    def patience(self) -> float:
        """Seconds within which everything in the queue, and one more call, will have been answered."""
        return self._owner.options.hook_timeout * (len(self._line) + (self._asked is not None) + 1)

    def to_data(self) -> str:
        """Return its phase, with pending calls to be made again."""
        return _ASKED_AGAIN.get(self.phase, self.phase).value

    # Between start and stop.

    def lift(self) -> bool:
        """Tell whether processes may be started; calls the hook if that is open, and `may_start` afterwards."""
        if not self.hooks:
            self.phase = GatePhase.UP
        elif self.phase is GatePhase.DOWN:
            self.phase = GatePhase.ASKING_START
            self.ask("before_start", partial(self._start_answered, self._life))
        return self.phase in _LIFTED

    def _start_answered(self, life: int, consented: bool) -> None:
        if life != self._life or self.phase is not GatePhase.ASKING_START:
            return
        if consented:
            self.phase = GatePhase.SPAWNING
            self._owner.may_start()
        else:
            self._owner.veto(self._no("before_start"))

    def lower(self) -> None:
        """Note that the watcher stops; what follows waits until before_stop has returned."""
        if self.phase in _LIFTED and self.hooks:
            self.phase = GatePhase.STOPPING
            self._life += 1
            self.ask("before_stop")
        elif self.phase is GatePhase.ASKING_START or not self.hooks:
            self.phase = GatePhase.DOWN
            self._life += 1

    def advance(self, *, served: bool | None, gone: bool) -> None:
        """Call what is due after its start, with processes or (`served` False) without, or after its end.

        `served` is None until its start is over.
        """
        if self.phase is GatePhase.SPAWNING and served is not None:
            self.phase = GatePhase.ASKING_STARTED if served else GatePhase.UP
            if served:
                self.ask("after_start", partial(self._started_answered, self._life))
        elif self.phase is GatePhase.STOPPING and gone:
            self.phase = GatePhase.ASKING_STOPPED
            self.ask("after_stop", partial(self._stopped_answered, self._life))

    def _started_answered(self, life: int, consented: bool) -> None:
        if life != self._life or self.phase is not GatePhase.ASKING_STARTED:
            return
        if consented:
            self.phase = GatePhase.UP
        else:
            self._owner.veto(self._no("after_start"))

    def _stopped_answered(self, life: int, _consented: bool) -> None:
        if life == self._life and self.phase is GatePhase.ASKING_STOPPED:
            self.phase = GatePhase.DOWN
            self._owner.may_start()  # it may have been asked to meanwhile

    def refuse_spawn(self, hook: str) -> None:
        """Note that a hook has forbidden a process: as in Circus, the watcher stops."""
        self._owner.veto(self._no(hook))

    def _no(self, hook: str) -> str:
        return f"hooks.{hook} said no"

    # Single questions.

    def ask(self, hook: str, then: Callable[[bool], None] = _ignore, **details: Any) -> None:
        """Call a hook after all queued ones; `then` is called with whether it consents."""
        self._line.append(_Question(hook, then, details))
        self._go_on()

    def ask_stats(self, then: Callable[[HookAnswer], None], **details: Any) -> None:
        """Let extended_stats add to the figures of a process."""
        self._line.append(_Question("extended_stats", details=details, raw=then))
        self._go_on()

    def abandon(self) -> None:
        """Make no more calls."""
        dropped = [each for each in (self._asked, *self._line) if each is not None and each.raw is not None]
        self._line.clear()
        self._asked = None
        for each in dropped:
            if each.raw is not None:
                each.raw(HookAnswer(said=False, error="called off"))
        self._life += 1
        self.phase = GatePhase.DOWN

    def _go_on(self) -> None:
        while self._line and self._asked is None:
            question = self._line.popleft()
            hooks = self.hooks
            if question.hook not in hooks and not (question.hook in ("before_start", "after_stop") and hooks):
                with Barrier(self._emit, f"what follows without hooks.{question.hook}"):
                    question.then(True)
                continue
            self._asked = question
            is_called = False
            with Barrier(self._emit, f"the call of hooks.{question.hook}"):
                self._make(question, hooks)
                is_called = True
            if not is_called:
                self._answered(question, HookAnswer(said=False, error="a bug in forkserve; its log says more"))

    def _make(self, question: _Question, hooks: Mapping[str, Hook]) -> None:
        options = self._owner.options
        call = HookCall(
            watcher=options.name,
            hook=question.hook,
            targets={name: each.target for name, each in hooks.items()},
            timeout=options.hook_timeout,
            path=self._owner.import_path(),
            details=question.details,
        )
        self._call(call, partial(self._answered, question))

    def mend(self) -> bool:
        """Have the owner look again where a bug has lost what an answer leads to; tells that nothing is pending."""
        if self._asked is not None or self._line:
            return False
        self.phase = _ASKED_AGAIN.get(self.phase, self.phase)
        return True

    def _answered(self, question: _Question, answer: HookAnswer) -> None:
        if question is not self._asked:
            return
        self._asked = None
        hook, name = self.hooks.get(question.hook), question.hook
        consented = answer.said
        if answer.error:
            consented = name in ALWAYS_IGNORED or (hook is not None and hook.ignore_failure)
            self._emit(HookFailed(watcher=self._owner.options.name, name=name, error=answer.error))
        elif hook is not None:
            self._emit(HookSucceeded(watcher=self._owner.options.name, name=name))
        if name == "before_start" or answer.changes:
            self._owner.templates.change(answer.changes)
        with Barrier(self._emit, f"what follows hooks.{name}"):
            if question.raw is not None:
                question.raw(answer)
            else:
                question.then(consented)
        self._go_on()
        self._owner.gate_moved()
