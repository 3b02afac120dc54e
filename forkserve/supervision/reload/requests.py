"""The requested changes of the configuration, in order: the file read again, or an edit.

Rules: data, and one rule: consecutive waiting readings of the file become one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from forkserve.config.editing import ConfigEdit
from forkserve.supervision.completion import Completion

__all__ = ["ChangeRequest", "ChangeRequests"]


@dataclass(slots=True)
class ChangeRequest:
    """One change. Without `edit` the configuration is read again; `processes` replaces unchanged processes as well.

    `may_replace` tells whether running processes may be replaced for it, `starts` whether new watchers are started;
    `done` is the line that reports its end.
    """

    processes: bool = False
    edit: ConfigEdit | None = None
    may_replace: bool = True
    starts: bool = True
    done: str = "reloaded"
    completions: list[Completion] = field(default_factory=list)

    def ask(self) -> Completion:
        """Return a completion that is done when the change is."""
        completion = Completion()
        self.completions.append(completion)
        return completion


class ChangeRequests:
    """The waiting requests."""

    def __init__(self) -> None:
        self._waiting: deque[ChangeRequest] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, request: ChangeRequest) -> Completion:
        """Add a request; a reading of the file joins one that waits last."""
        last = self._waiting[-1] if self._waiting else None
        if request.edit is None and last is not None and last.edit is None:
            last.processes |= request.processes
            return last.ask()
        self._waiting.append(request)
        return request.ask()

    def take(self) -> ChangeRequest | None:
        """Remove and return the first."""
        return self._waiting.popleft() if self._waiting else None

    def __iter__(self) -> Iterator[ChangeRequest]:
        """Iterate over them, from the first."""
        return iter(tuple(self._waiting))

    def go_on(self, waiting: Iterable[ChangeRequest]) -> None:
        """Restore the waiting requests of another one."""
        self._waiting.extend(waiting)

    def clear(self) -> list[Completion]:
        """Forget all; returns their completions."""
        dropped = [each for request in self._waiting for each in request.completions]
        self._waiting.clear()
        return dropped
