"""The promise of work that takes time: stop a watcher, replace its processes.

Rules: single-threaded, completed once, by the loop. It holds no resource, so dropping it cancels nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forkserve.errors import ForkserveError

__all__ = ["Completion", "all_of"]


class Completion:
    """Pending, then either `result`, a line that says what was done, or `error`, the reason why not.

    `code` is the exit code of what was run, if that was the request. `parts` are the completions that `all_of` has
    combined, `text` the result once all of them have succeeded.
    """

    def __init__(self, parts: Sequence[Completion] = (), text: str = "") -> None:
        self.result: str | None = None
        self.error: ForkserveError | None = None
        self.code: int | None = None
        self.parts = tuple(parts)
        self.text = text
        self._open = 0
        self._callbacks: list[Callable[[Completion], None]] = []

    @property
    def done(self) -> bool:
        """True once there is a result or an error."""
        return self.result is not None or self.error is not None

    def when_done(self, callback: Callable[[Completion], None]) -> None:
        """Call back with this completion when the work is done; at once if it already is."""
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def succeed(self, result: str, code: int | None = None) -> None:
        """Complete it; a second completion changes nothing."""
        if not self.done:
            self.result, self.code = result, code
            self._call()

    def fail(self, error: ForkserveError) -> None:
        """Complete it with an error; a second completion changes nothing."""
        if not self.done:
            self.error = error
            self._call()

    def follow(self, other: Completion) -> None:
        """Complete it with the outcome of another one."""
        if other.error is not None:
            self.fail(other.error)
        elif other.result is not None:
            self.succeed(other.result, other.code)

    def consist_of(self, parts: Sequence[Completion]) -> None:
        """Complete it when all of these are done."""
        self.parts = tuple(parts)
        self._open = len(self.parts)
        for each in self.parts:
            each.when_done(self._part_is_done)

    def _part_is_done(self, _part: Completion) -> None:
        self._open -= 1
        if self._open == 0:
            self._conclude()

    def _conclude(self) -> None:
        errors = [str(each.error) for each in self.parts if each.error is not None]
        if errors:
            self.fail(ForkserveError("\n".join(errors)))
        else:
            self.succeed(self.text)

    def _call(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        bugs = []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as bug:  # noqa: BLE001 - the others wait for this too
                bugs.append(bug)
        if bugs:
            raise bugs[0]


def all_of(completions: Sequence[Completion], result: str) -> Completion:
    """Return a completion that is done when all are: with `result`, or with all their errors, one a line."""
    together = Completion(text=result)
    together.consist_of(completions)
    if not completions:
        together.succeed(result)
    return together
