"""A completion is completed once, and tells all who wait."""

from __future__ import annotations

from forkserve.errors import ForkserveError
from forkserve.supervision.completion import Completion, all_of


def test_a_ticket_tells_before_and_after_it_is_done() -> None:
    completion, told = Completion(), []
    completion.when_done(lambda each: told.append(each.result))
    completion.succeed("done")
    completion.fail(ForkserveError("too late"))
    completion.when_done(lambda each: told.append(each.result))

    assert told == ["done", "done"]
    assert completion.error is None


def test_all_of_waits_for_the_last_and_collects_the_errors() -> None:
    tickets = [Completion(), Completion(), Completion()]
    together = all_of(tickets, "all done")
    tickets[0].fail(ForkserveError("one"))
    tickets[1].succeed("fine")
    assert not together.done
    tickets[2].fail(ForkserveError("two"))

    assert str(together.error) == "one\ntwo"


def test_all_of_nothing_is_done() -> None:
    assert all_of([], "done").result == "done"


def test_a_part_that_is_done_costs_no_look_at_the_others() -> None:
    looks = []

    class Part(Completion):
        @property
        def done(self) -> bool:
            looks.append(self)
            return super().done

    parts = [Part() for _ in range(200)]
    together = all_of(parts, "all done")
    for part in parts:
        assert not together.done
        part.succeed("fine")
    assert together.result == "all done"
    assert len(looks) < 10 * len(parts)
