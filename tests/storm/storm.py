"""A storm: deeds in an order that the seed gives, what they owe afterwards, calm now and then, and the end.

Some deeds leave something to be put right, such as a master that is stopped: a debt, paid after a moment, with other
deeds in between. In a calm all debts are paid and all must be as the configuration says; only then the storm goes on.
"""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.storm.load import Doom, Load
from tests.storm.stack import Stack
from tests.storm.victim import Answer, Victim

__all__ = ["Debt", "Failure", "Storm"]

BOUND = 60.0
"""Seconds within which every verb is answered, and all is settled after the last deed."""
READ_BOUND = 10.0
"""The same for verbs that only read."""
READING = ("list", "status", "stats", "listsockets", "version")
REMEMBERED = 30
ANSWERS = (200, 202, 400, 404, 409)


class Failure(Exception):
    """Something that must hold did not."""


@dataclass(frozen=True, slots=True)
class Debt:
    """What a deed has left to be done at an instant."""

    due: float
    what: str
    pay: Callable[[], None]


@dataclass(slots=True)
class Ticket:
    """A verb under way."""

    verb: str
    parameters: dict[str, object]
    thread: threading.Thread
    answer: Answer | None = None


@dataclass
class Storm:
    """One storm in a folder."""

    folder: Path
    seed: int
    echo: Callable[[str], None] = lambda _line: None
    stack: Stack = field(init=False)
    victim: Victim = field(init=False)
    load: Load = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.begun = monotonic()
        self.actions: deque[str] = deque(maxlen=REMEMBERED)
        self.did: Counter[str] = Counter()
        self.debts: list[Debt] = []
        self.tickets: list[Ticket] = []
        self.verbs: Counter[str] = Counter()
        self.slowest = 0.0
        self.stack = Stack(self.folder)
        self.victim = Victim(self.folder, self.stack.file)
        self.doom = Doom()
        self.load = Load(self.stack.sites, self.doom, self.seed)

    # What deeds use.

    def note(self, text: str) -> None:
        """Remember what has been done."""
        line = f"{monotonic() - self.begun:8.2f} {text}"
        self.actions.append(line)
        self.echo(line)

    def owe(self, after: float, what: str, pay: Callable[[], None]) -> None:
        """Have something put right after some seconds."""
        self.debts.append(Debt(monotonic() + after, what, pay))

    def ask(self, verb: str, **parameters: object) -> Ticket:
        """Ask for a verb without waiting for its answer, as a client for itself."""
        bound = READ_BOUND if verb in READING else BOUND
        ticket = Ticket(verb, parameters, threading.Thread(daemon=True))

        def run() -> None:
            ticket.answer = self.victim.call(verb, timeout=bound + 30, **parameters)

        ticket.thread = threading.Thread(target=run, daemon=True)
        self.tickets.append(ticket)
        self.verbs[verb] += 1
        ticket.thread.start()
        return ticket

    def hang_up(self) -> None:
        """Have the configuration read again."""
        self.victim.send(signal.SIGHUP)

    def put_sizes_right(self) -> None:
        """Have each site keep as many processes as its file says; no change of the file undoes `decr`."""
        for site in self.stack.sites:
            self.ask("set", watcher=site.watcher, options={"numprocesses": site.numprocesses})

    # The course of it.

    def do(self, name: str, deed: Callable[[Storm], str]) -> None:
        """Do one deed, pay what is due, and look whether all still holds."""
        self.did[name] += 1
        self.note(deed(self))
        self.pay(monotonic())
        self.check()

    def wait(self, seconds: float) -> None:
        """Let it go on for a while, paying debts when they are due."""
        end = monotonic() + seconds
        while (now := monotonic()) < end:
            self.pay(now)
            following = min((each.due for each in self.debts), default=end)
            self.victim.ended.wait(max(0.0, min(end, following) - now))
            if self.victim.process.poll() is not None:
                raise Failure(f"the master has ended with code {self.victim.process.returncode}")
        self.check()

    def pay(self, until: float) -> None:
        """Pay what is due by then, in order."""
        for debt in sorted(self.debts, key=lambda each: each.due):
            if debt.due <= until:
                self.debts.remove(debt)
                self.note(f"  {debt.what}")
                debt.pay()

    def check(self) -> None:
        """Raise Failure when something does not hold."""
        if self.victim.faults:
            raise Failure(f"in the log: {self.victim.faults[0]}")
        if len(self.victim.holds) > 2 + sum(self.did.values()) // 25:
            raise Failure(f"the loop was held too often, for {self.victim.holds} seconds")
        if self.load.losses:
            raise Failure(f"lost: {self.load.losses[0].text}")
        for ticket in list(self.tickets):
            if ticket.answer is not None:
                self.tickets.remove(ticket)
                self._judge(ticket, ticket.answer)

    def _judge(self, ticket: Ticket, answer: Answer) -> None:
        asked = f"{ticket.verb} {ticket.parameters or ''}".rstrip()
        halted = sum(
            min(end, monotonic()) - begin for begin, end in self.victim.halts if end > monotonic() - answer.took
        )
        bound = READ_BOUND if ticket.verb in READING else BOUND
        if answer.status not in ANSWERS:
            raise Failure(f"{asked}: {answer.status} {answer.body}")
        if answer.took - halted > bound:
            raise Failure(f"{asked}: answered after {answer.took:.1f} s")
        self.slowest = max(self.slowest, answer.took)

    def start(self) -> None:
        """Wait until the master can be asked."""
        deadline = monotonic() + BOUND
        while not self.victim.control.exists():
            if monotonic() > deadline:
                raise Failure("no control socket")
            self.wait(0.05)

    def calm(self) -> None:
        """Pay all debts and wait until all is as the file says; raises Failure when it does not come to that."""
        self.pay(float("inf"))
        self.stack.mend()
        self.stack.write()
        self.note("calm")
        deadline = monotonic() + 2 * BOUND
        while self.tickets:
            self.tickets[0].thread.join(max(0.0, deadline - monotonic()))
            if self.tickets[0].answer is None:
                raise Failure(f"{self.tickets[0].verb} {self.tickets[0].parameters} is not answered")
            self.check()
        for verb in ("reloadconfig", "start"):
            answer = self.victim.call(verb, timeout=BOUND)
            if answer.status != 200:
                raise Failure(f"in a calm, {verb}: {answer.status} {answer.body}")
        self.put_sizes_right()
        self._until_settled(monotonic() + BOUND)

    def _until_settled(self, deadline: float) -> None:
        since = monotonic()
        while (missing := self._missing(since)) is not None:
            if monotonic() > deadline:
                raise Failure(f"not settled after {BOUND:g} s: {missing}")
            self.wait(0.1)

    def _missing(self, since: float) -> str | None:
        """Return what is not yet as it is wanted."""
        answer = self.victim.call("status", timeout=READ_BOUND)
        if answer.status != 200:
            raise Failure(f"in a calm, status: {answer.status} {answer.body}")
        found = {each["name"]: each for each in answer.body}
        sites = {site.watcher for site in self.stack.sites if site.has_watcher and site.has_socket}
        if set(found) != sites | set(self.stack.watchers):
            return f"watchers {sorted(found)}, wanted {sorted(sites | set(self.stack.watchers))}"
        for name, report in found.items():
            states = [each["state"] for each in report["processes"] if not each.get("zygote")]
            if name != "flaky" and states != ["ready"] * report["numprocesses"]:
                return f"{name}: {report['state']}, {report['numprocesses']} wanted, processes {states}"
        wanted = {site.names[site.name] for site in self.stack.sites if site.has_socket}
        sockets = {each["name"] for each in self.victim.call("listsockets", timeout=READ_BOUND).body}
        if sockets != wanted:
            return f"sockets {sorted(sockets)}, wanted {sorted(wanted)}"
        silent = [name for name in sites if self.load.answered[name] < since]
        return f"no answer from {', '.join(silent)}" if silent else None
