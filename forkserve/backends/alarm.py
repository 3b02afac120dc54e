"""`--timeout` where the loop itself calls the application, and cannot check deadlines meanwhile: see `watch`."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType

from forkserve.backends.watch import Watch
from forkserve.serving.engine.driver import Driver
from forkserve.serving.engine.http1 import Http1
from forkserve.serving.engine.lifetime import CountedStart
from forkserve.serving.failure import OURS
from forkserve.wsgi import WsgiExchange

__all__ = ["Alarm", "in_application"]

CHECKS = 10
"""Checks within one timeout: it is accurate to a tenth."""


class Alarm(Watch):
    """Watches `current`, which is set while an exchange runs; sending counts as progress."""

    __slots__ = ("current", "driver")

    def __init__(self, timeout: float, give_up: Callable[[str], object]) -> None:
        self.current: WsgiExchange | None = None
        self.driver: Driver | None = None
        super().__init__(timeout, CHECKS, state=self._progress, place=self._where, give_up=give_up)

    def _progress(self) -> object:
        current = self.current
        return None if current is None or self.driver is None else (current, self.driver.moved)

    def _where(self, frame: FrameType | None) -> tuple[str, str] | None:
        current = self.current
        return current.name() if current is not None and in_application(frame) else None


def in_application(frame: FrameType | None, *callers: CodeType) -> bool:
    """Tell whether the application, or code called by it, runs; `callers` call it too."""
    called: FrameType | None = None
    while frame is not None and frame.f_code not in _CALLERS and frame.f_code not in callers:
        if frame.f_code.co_filename.startswith(OURS):
            # It is in one of our functions, which may not be left half way; it will come out again.
            return False
        called, frame = frame, frame.f_back
    return frame is not None and called is not None


_CALLERS = frozenset(
    each.__code__
    for each in (
        *(WsgiExchange.run, WsgiExchange.answer, WsgiExchange._pump, WsgiExchange._end),
        *(Driver.ready, Http1.begin, Http1._begin_body, Http1._take_body, CountedStart.__call__),
    )
)
"""Which of our functions call the application, and which call the C that does."""
