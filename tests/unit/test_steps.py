"""Answers that are long in the making keep what they asked for, however busy the machine is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from forkserve.control.commands.context import Later, Steps
from forkserve.control.commands.steps import AT_A_TIME, take_steps
from tests.support.supervision import ManualLoop


class BusyLoop(ManualLoop):
    """Loses the whole moment between any two looks at the clock."""

    def now(self) -> float:
        self.clock += 2 * AT_A_TIME
        return self.clock


def test_a_step_gets_the_figures_that_it_asked_for_though_its_moment_is_over() -> None:
    loop, asked, answers = BusyLoop(), [], []

    def steps() -> Steps:
        found: Any = yield Later(asked.append)
        yield None
        return [found]

    context: Any = SimpleNamespace(master=SimpleNamespace(loop=loop))
    take_steps(context, steps(), answers.append)
    then: Callable[[Any], None] = asked[0]
    then({"pid": 1})
    loop.serve()

    assert [answer.body for answer in answers] == [b'[{"pid":1}]\n']
