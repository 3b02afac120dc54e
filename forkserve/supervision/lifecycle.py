"""The states of supervision as tables: a process, a slot, the master; and when a slot is given up.

Theory of operation. A *process* is one pid, used once. A *slot* is one place with many lives: a watcher has
`numprocesses` of them, numbered from 1 (the `wid` of Circus). They are two machines, since during a reload the new
process takes the slot while the old one drains beside it. What a watcher is doing is computed from both, and never
stored. What is wanted is not a state either: it arrives as an event.

Rules: pure. `step(TABLE, state, event)` returns the next state and what is to be done, in order. A missing cell is a
bug of the caller and raises ImpossibleEvent; an event that changes nothing has a cell that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from forkserve.errors import FINAL

__all__ = [
    "MASTER",
    "PROCESS",
    "SLOT",
    "Death",
    "Effect",
    "ImpossibleEvent",
    "MasterTrigger",
    "MasterState",
    "Policy",
    "ProcessTrigger",
    "ProcessState",
    "SlotTrigger",
    "SlotState",
    "Tally",
    "Verdict",
    "judge",
    "markdown",
    "step",
]


class ImpossibleEvent(Exception):
    """An event arrived in a state whose table has no cell for it."""


class ProcessState(Enum):
    """What one pid is doing; REQUESTED until its program runs, which only exec(2) can tell."""

    REQUESTED = "requested"
    SPAWNING = "spawning"
    READY = "ready"
    DRAINING = "draining"
    KILLING = "killing"
    GONE = "gone"


class ProcessTrigger(Enum):
    """What may happen to one pid; DEADLINE is that of its state; PROMOTED means that a drained worker has become a
    zygote.
    """

    STARTED = "started"
    READY = "ready"
    STOP = "stop"
    KILL = "kill"
    DEADLINE = "deadline"
    PROMOTED = "promoted"
    EXITED = "exited"


class SlotState(Enum):
    """What one place of a watcher is doing; BACKOFF resolves by itself, FATAL needs a person."""

    VACANT = "vacant"
    FILLED = "filled"
    BACKOFF = "backoff"
    FATAL = "fatal"


class SlotTrigger(Enum):
    """What may happen to one place of a watcher."""

    WANT_UP = "want up"
    WANT_DOWN = "want down"
    LOST = "lost"
    LOST_EARLY = "lost early"
    FINISHED = "finished"
    REPLACED = "replaced"
    DUE = "due"
    GAVE_UP = "gave up"
    RESET = "reset"


class MasterState(Enum):
    """What the master as a whole is doing."""

    RUNNING = "running"
    STOPPING = "stopping"
    TERMINATING = "terminating"
    DOWN = "down"


class MasterTrigger(Enum):
    """What may happen to the master as a whole; CHILDLESS means that no process is left."""

    STOP = "stop"
    TERMINATE = "terminate"
    CHILDLESS = "childless"


class Effect(Enum):
    """What a step asks for; the value is the wording of the documentation."""

    ANNOUNCE_START = "announce the start"
    ANNOUNCE = "announce"
    SEND_STOP = "send stop_signal, arm graceful_timeout"
    SEND_KILL = "SIGKILL the group"
    TELL_LATE = "log the missed deadline"
    SPAWN = "spawn"
    STOP_OCCUPANT = "stop the occupant"
    STOP_PREDECESSOR = "stop the predecessor"
    ARM = "arm the back-off"
    DISARM = "disarm the back-off"
    CLEAR_TALLY = "clear the tally"
    STOP_ALL = "stop all watchers, lowest priority first"
    HURRY = "shorten what delays the stop"
    KILL_ALL = "SIGKILL all groups"
    CLOSE = "close the sockets, end"


S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)
Table = Mapping[S, Mapping[E, tuple[S, tuple[Effect, ...]]]]

_P, _PE, _S, _SE, _M, _ME, _E = ProcessState, ProcessTrigger, SlotState, SlotTrigger, MasterState, MasterTrigger, Effect

PROCESS: Table[ProcessState, ProcessTrigger] = {
    _P.REQUESTED: {
        _PE.STARTED: (_P.SPAWNING, (_E.ANNOUNCE_START,)),
        _PE.READY: (_P.REQUESTED, ()),
        _PE.STOP: (_P.DRAINING, (_E.SEND_STOP,)),
        _PE.KILL: (_P.KILLING, (_E.SEND_KILL,)),
        _PE.DEADLINE: (_P.KILLING, (_E.TELL_LATE, _E.SEND_KILL)),
        _PE.EXITED: (_P.GONE, ()),
    },
    _P.SPAWNING: {
        _PE.READY: (_P.READY, (_E.ANNOUNCE,)),
        _PE.STOP: (_P.DRAINING, (_E.SEND_STOP,)),
        _PE.KILL: (_P.KILLING, (_E.SEND_KILL,)),
        _PE.DEADLINE: (_P.KILLING, (_E.TELL_LATE, _E.SEND_KILL)),
        _PE.EXITED: (_P.GONE, ()),
    },
    _P.READY: {
        _PE.READY: (_P.READY, ()),
        _PE.STOP: (_P.DRAINING, (_E.SEND_STOP,)),
        _PE.KILL: (_P.KILLING, (_E.SEND_KILL,)),
        _PE.EXITED: (_P.GONE, ()),
    },
    _P.DRAINING: {
        _PE.STARTED: (_P.DRAINING, (_E.ANNOUNCE_START,)),
        _PE.READY: (_P.DRAINING, ()),
        _PE.STOP: (_P.DRAINING, ()),
        _PE.KILL: (_P.KILLING, (_E.SEND_KILL,)),
        _PE.DEADLINE: (_P.KILLING, (_E.TELL_LATE, _E.SEND_KILL)),
        _PE.PROMOTED: (_P.READY, ()),
        _PE.EXITED: (_P.GONE, ()),
    },
    _P.KILLING: {
        _PE.STARTED: (_P.KILLING, (_E.ANNOUNCE_START,)),
        _PE.READY: (_P.KILLING, ()),
        _PE.STOP: (_P.KILLING, ()),
        _PE.KILL: (_P.KILLING, (_E.SEND_KILL,)),
        _PE.DEADLINE: (_P.KILLING, (_E.TELL_LATE, _E.SEND_KILL)),
        _PE.EXITED: (_P.GONE, ()),
    },
    _P.GONE: {},
}

SLOT: Table[SlotState, SlotTrigger] = {
    _S.VACANT: {
        _SE.WANT_UP: (_S.FILLED, (_E.SPAWN,)),
        _SE.WANT_DOWN: (_S.VACANT, ()),
        _SE.RESET: (_S.FILLED, (_E.CLEAR_TALLY, _E.SPAWN)),
    },
    _S.FILLED: {
        _SE.WANT_UP: (_S.FILLED, ()),
        _SE.WANT_DOWN: (_S.VACANT, (_E.STOP_OCCUPANT,)),
        _SE.LOST: (_S.FILLED, (_E.SPAWN,)),
        _SE.LOST_EARLY: (_S.BACKOFF, (_E.ARM,)),
        _SE.FINISHED: (_S.VACANT, ()),
        _SE.REPLACED: (_S.FILLED, (_E.STOP_PREDECESSOR,)),
        _SE.GAVE_UP: (_S.FATAL, ()),
        _SE.RESET: (_S.FILLED, ()),
    },
    _S.BACKOFF: {
        _SE.WANT_UP: (_S.BACKOFF, ()),
        _SE.WANT_DOWN: (_S.VACANT, (_E.DISARM, _E.CLEAR_TALLY)),
        _SE.DUE: (_S.FILLED, (_E.SPAWN,)),
        _SE.RESET: (_S.FILLED, (_E.DISARM, _E.CLEAR_TALLY, _E.SPAWN)),
    },
    _S.FATAL: {
        _SE.WANT_UP: (_S.FATAL, ()),
        _SE.WANT_DOWN: (_S.VACANT, (_E.CLEAR_TALLY,)),
        _SE.RESET: (_S.FILLED, (_E.CLEAR_TALLY, _E.SPAWN)),
    },
}

MASTER: Table[MasterState, MasterTrigger] = {
    _M.RUNNING: {
        _ME.STOP: (_M.STOPPING, (_E.STOP_ALL,)),
        _ME.TERMINATE: (_M.TERMINATING, (_E.KILL_ALL,)),
    },
    _M.STOPPING: {
        _ME.STOP: (_M.STOPPING, (_E.HURRY,)),
        _ME.TERMINATE: (_M.TERMINATING, (_E.KILL_ALL,)),
        _ME.CHILDLESS: (_M.DOWN, (_E.CLOSE,)),
    },
    _M.TERMINATING: {
        _ME.STOP: (_M.TERMINATING, ()),
        _ME.TERMINATE: (_M.TERMINATING, (_E.KILL_ALL,)),
        _ME.CHILDLESS: (_M.DOWN, (_E.CLOSE,)),
    },
    _M.DOWN: {
        _ME.STOP: (_M.DOWN, ()),
        _ME.TERMINATE: (_M.DOWN, ()),
        _ME.CHILDLESS: (_M.DOWN, ()),
    },
}


def step(table: Table[S, E], state: S, event: E) -> tuple[S, tuple[Effect, ...]]:
    """Return the state after `event` and what is to be done; raises ImpossibleEvent."""
    try:
        return table[state][event]
    except KeyError:
        raise ImpossibleEvent(f"{event} in {state}") from None


def markdown() -> str:
    """Return the tables as the documentation shows them (docs/states.md)."""
    sections = (
        _section("Process", "One pid, used once.", PROCESS, tuple(ProcessTrigger)),
        _section("Slot", "One place of a watcher, with many lives.", SLOT, tuple(SlotTrigger)),
        _section("Master", "From the first signal caught to the last socket closed.", MASTER, tuple(MasterTrigger)),
    )
    return "\n\n".join((_TITLE, *sections)) + "\n"


_TITLE = """# States

What supervision is made of; printed by `python -m forkserve.supervision.lifecycle`. What a watcher does (stopped,
starting, active, stopping, fatal) is computed from its slots and processes, and is not a state."""


def _section(title: str, about: str, table: Table[S, E], events: Sequence[E]) -> str:
    lines = [["state", *(event.value for event in events)], ["---"] * (len(events) + 1)]
    lines += ([state.name, *(_cell(table, state, event) for event in events)] for state in table)
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {title}\n\n{about} A dot changes nothing; an empty cell cannot happen.\n\n{rows}"


def _cell(table: Table[S, E], state: S, event: E) -> str:
    if event not in table[state]:
        return ""
    after, effects = table[state][event]
    what = ", ".join(effect.value for effect in effects)
    if after is state:
        return what or "·"
    return f"{after.name}: {what}" if what else after.name


FROM_OUTSIDE = frozenset({1, 2, 3, 9, 15})
"""HUP, INT, QUIT, KILL and TERM: a person, or the kernel short of memory, has ended the process; it did not fail."""

KILLED_AT_MOST = 200
"""Early deaths from outside, in a row, before they count as failures: a burst of kills is tolerated, an endless one
not.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a watcher wants deaths to be handled; times in seconds, `max_retry` -1 is for ever."""

    respawn: bool = True
    max_retry: int = 5
    backoff: float = 0.5
    backoff_max: float = 30.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Early deaths in a row: those by its own fault, and those by a signal from outside."""

    failed: int = 0
    killed: int = 0


@dataclass(frozen=True, slots=True)
class Death:
    """How an occupant was lost, or failed to start.

    `transient` means that the machine was short of something; `impossible`, that no such program can be executed and
    the slot has never run one; `early`, that it died so soon that having been ready says nothing. `code` is the exit
    code of a program whose codes are known, as long as no process of its watcher was ever ready: a program that has
    served can start. `expected` means that the exit code is one of `exitcodes`, after which it is not replaced.
    """

    was_ready: bool
    signum: int | None = None
    transient: bool = False
    impossible: bool = False
    early: bool = False
    code: int | None = None
    expected: bool = False

    @property
    def is_final(self) -> bool:
        """True if another try would end in the same way."""
        return self.impossible or self.code in FINAL


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a death: the slot's event, the new tally, and for LOST_EARLY the pause in seconds."""

    event: SlotTrigger
    tally: Tally
    delay: float = 0.0


def judge(policy: Policy, tally: Tally, death: Death) -> Verdict:
    """Decide what follows when the occupant of a slot has died unrequested.

    A process that had been ready for a while clears the tally and is replaced at once. An early death is retried after
    a pause that doubles, and after `max_retry` of them in a row the slot is given up; at once if no other try can help.
    """
    if (death.expected or not policy.respawn) and not death.transient:
        return Verdict(SlotTrigger.FINISHED, Tally())
    if death.was_ready and not death.early:
        return Verdict(SlotTrigger.LOST, Tally())
    if death.signum in FROM_OUTSIDE and tally.killed < KILLED_AT_MOST:
        return Verdict(SlotTrigger.LOST, replace(tally, killed=tally.killed + 1))
    failed = tally.failed + 1
    if death.transient:
        return Verdict(SlotTrigger.LOST_EARLY, tally, min(policy.backoff, policy.backoff_max))
    counted = replace(tally, failed=failed)
    if 0 <= policy.max_retry <= failed or (death.is_final and policy.max_retry >= 0):
        return Verdict(SlotTrigger.GAVE_UP, counted)
    # 2 ** 60 seconds is long enough, and a float still
    return Verdict(
        SlotTrigger.LOST_EARLY, counted, min(policy.backoff * 2.0 ** min(failed - 1, 60), policy.backoff_max)
    )


if __name__ == "__main__":
    print(markdown(), end="")
