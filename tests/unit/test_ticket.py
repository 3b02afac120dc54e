"""A ticket is completed once, and tells all who wait."""

from __future__ import annotations

from forkserve.errors import ForkserveError
from forkserve.supervision.completion import Ticket, all_of


def test_a_ticket_tells_before_and_after_it_is_done() -> None:
    ticket, told = Ticket(), []
    ticket.when_done(lambda each: told.append(each.result))
    ticket.succeed("done")
    ticket.fail(ForkserveError("too late"))
    ticket.when_done(lambda each: told.append(each.result))

    assert told == ["done", "done"]
    assert ticket.error is None


def test_all_of_waits_for_the_last_and_collects_the_errors() -> None:
    tickets = [Ticket(), Ticket(), Ticket()]
    together = all_of(tickets, "all done")
    tickets[0].fail(ForkserveError("one"))
    tickets[1].succeed("fine")
    assert not together.done
    tickets[2].fail(ForkserveError("two"))

    assert str(together.error) == "one\ntwo"


def test_all_of_nothing_is_done() -> None:
    assert all_of([], "done").result == "done"
