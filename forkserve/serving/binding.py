"""The class of the exchanges of one serving: that of the interface, with what the options ask to be recorded of each.

Rules: a request pays only for what is asked for, so each combination of access log, counters and request ids is a
class, created once. The order of the bases is the order of their actions: a request gets its id, is counted, and is
logged, which ends `note`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forkserve.serving.counted import CountedAndNotedExchange, CountedExchange, RequestCounter, with_counter
from forkserve.serving.exchange import BaseExchange
from forkserve.serving.logged import logging_by

__all__ = ["Binding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What is recorded of the exchanges of `context`, in `access` and by `counter`, if there are any.

    `identified` is the interface's class of exchanges with an id, None if requests get none; `attributes` are what the
    classes need besides.
    """

    context: Any
    access: Any = None
    counter: RequestCounter | None = None
    identified: type[BaseExchange] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> Callable[..., Any] | None:
        """What the C calls in place of `note`; None if there is no log, or a line needs more than the C knows."""
        return None if self.access is None or self.access.timed else self.access.write

    def make(self, name: str, base: type[Any]) -> Any:
        """Return the class for an interface's `base`, and tell its context what is recorded."""
        self.context.logged = self.access is not None
        self.context.noted = self.access is not None or self.counter is not None
        bases: list[type[Any]] = [] if self.identified is None else [self.identified]
        bound: dict[str, Any] = {"__slots__": (), "serving": self.context, **self.attributes}
        if self.counter is not None:
            bases.append(CountedExchange if self.access is None else CountedAndNotedExchange)
            bound["counter"] = self.counter
        if self.access is not None:
            logged, more = logging_by(self.access)
            bases.append(logged)
            bound |= more
        return type(name, (*bases, base), bound)

    def instrument(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return a maker of exchanges that also starts to count them, if they are counted."""
        return make if self.counter is None else with_counter(self.counter, make)
