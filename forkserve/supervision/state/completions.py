"""Completions as plain data: each by a number, so that the job, the change and the client that share one do so again.

Rules: a completion is serialised after its parts. What waits for one (a client, a step of the master) asks for it again
by its number, and attaches itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forkserve.errors import ControlError, ExitCode, ForkserveError, UnknownNameError
from forkserve.supervision.completion import Completion
from forkserve.supervision.jobqueue.queue import Superseded

__all__ = ["CompletionReader", "CompletionWriter"]

Data = Mapping[str, Any]

_ERRORS: Mapping[str, type[ForkserveError]] = {
    "superseded": Superseded,
    "unknown": UnknownNameError,
    "control": ControlError,
    "other": ForkserveError,
}
"""Errors that waiting code distinguishes, the most specific first."""


class CompletionWriter:
    """Numbers completions in the order of their use, from 0."""

    def __init__(self) -> None:
        self._met: dict[Completion, int] = {}
        self.data: list[Data] = []
        """The input of `CompletionReader`; complete when everything else has been serialised."""

    def number(self, completion: Completion) -> int:
        """Return the number of a completion."""
        found = self._met.get(completion)
        if found is not None:
            return found
        parts = [] if completion.done else [self.number(each) for each in completion.parts]
        number = self._met[completion] = len(self.data)
        self.data.append(
            {
                "result": completion.result,
                "code": completion.code,
                "error": None if completion.error is None else _from_error(completion.error),
                "parts": parts,
                "text": completion.text,
            }
        )
        return number


class CompletionReader:
    """The completions again, by number."""

    def __init__(self, data: Sequence[Data]) -> None:
        self._all: list[Completion] = []
        for each in data:
            completion = Completion([self._all[number] for number in each["parts"]], each["text"])
            self._all.append(completion)
            completion.result, completion.code = each["result"], each.get("code")
            completion.error = None if each["error"] is None else _to_error(each["error"])
            completion.consist_of(completion.parts)

    def __getitem__(self, number: int) -> Completion:
        return self._all[number]


def _from_error(error: ForkserveError) -> Data:
    kind = next(name for name, each in _ERRORS.items() if isinstance(error, each))
    return {"kind": kind, "text": str(error), "exit": int(error.exit_code), "code": getattr(error, "code", None)}


def _to_error(data: Data) -> ForkserveError:
    kind = _ERRORS[data["kind"]]
    error = UnknownNameError(data["text"], data["code"]) if kind is UnknownNameError else kind(data["text"])
    error.exit_code = ExitCode(data["exit"])
    return error
