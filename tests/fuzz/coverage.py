"""Which lines of a package have run: by sys.monitoring where it exists (Python 3.12), else by sys.settrace."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any, Self

__all__ = ["LineCoverage"]


class LineCoverage:
    """Counts the different lines that ran inside the block; `count` only grows."""

    def __init__(self, package: str) -> None:
        self._part = package.replace(".", "/")
        self._lines: set[tuple[str, int]] = set()

    @property
    def count(self) -> int:
        return len(self._lines)

    def __enter__(self) -> Self:
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            monitoring.use_tool_id(monitoring.COVERAGE_ID, "forkserve-fuzz")
            monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, self._line)
            monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)
        else:
            sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        if sys.version_info >= (3, 12):
            sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, 0)
            sys.monitoring.free_tool_id(sys.monitoring.COVERAGE_ID)
        else:
            sys.settrace(None)

    def _line(self, code: CodeType, line: int) -> object:
        if self._part in code.co_filename:
            self._lines.add((code.co_filename, line))
        # Each line is reported once and then costs nothing.
        if sys.version_info >= (3, 12):
            return sys.monitoring.DISABLE
        return None

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if self._part not in frame.f_code.co_filename:
            return None
        if event == "line":
            self._lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._trace
