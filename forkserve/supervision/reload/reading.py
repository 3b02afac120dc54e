"""Lets a helper read a configuration, so that the loop goes on while the reading blocks.

Rules: one reading at a time; the result is a Preparation or a ForkserveError.
"""

from __future__ import annotations

from collections.abc import Callable

from forkserve.config.load import ConfigSource
from forkserve.errors import ForkserveError
from forkserve.supervision.os.forkedcall import CallFailedError, ForkedCall, call_in_fork
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.reload.preparation import Preparation, prepare_config

__all__ = ["READING_TIMEOUT", "ConfigReading"]

READING_TIMEOUT = 10.0
"""Seconds within which a configuration must have been read and its names looked up."""


class ConfigReading:
    """The reading in progress, if there is one; `then` is called with the result."""

    def __init__(
        self, loop: Loop, then: Callable[[Preparation | ForkserveError], None], *, timeout: float = READING_TIMEOUT
    ) -> None:
        self._loop = loop
        self._then = then
        self._timeout = timeout
        self._call: ForkedCall[Preparation] | None = None

    @property
    def is_busy(self) -> bool:
        """True while a helper reads."""
        return self._call is not None

    def begin(self, source: ConfigSource) -> None:
        """Start the helper; raises ForkserveError if there can be no process."""
        try:
            self._call = call_in_fork(
                self._loop,
                lambda: prepare_config(source),
                self._taken,
                title="forkserve: reading the configuration",
                timeout=self._timeout,
            )
        except OSError as error:
            text = f"no process can be started to read the configuration: {error.strerror}"
            raise ForkserveError(text) from error

    def stop(self) -> None:
        """Cancel the helper, if there is one; `then` is not called for it."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def reaped(self, pid: int) -> None:
        """Note that a pid has been reaped; it may be the helper's."""
        if self._call is not None:
            self._call.reaped(pid)

    def _taken(self, outcome: Preparation | Exception) -> None:
        self._call = None
        if isinstance(outcome, CallFailedError):
            outcome = ForkserveError(f"reading the configuration {outcome}")
        elif isinstance(outcome, Exception) and not isinstance(outcome, ForkserveError):
            outcome = ForkserveError(f"{type(outcome).__name__}: {outcome}")
        self._then(outcome)
