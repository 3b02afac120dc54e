"""Finds out whether the application has closed descriptors that it did not open, as `os.closerange(3, 256)` does.

A number may be in use again by then, for a file of the application. So the files are compared (fstat(2)).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from forkserve.errors import ApplicationError

__all__ = ["OwnDescriptors"]


class OwnDescriptors:
    """Descriptors that this process needs, and the files that they had before the application was imported."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._files = {number: _file_of(number) for number in numbers}

    def require(self) -> None:
        """Raise ApplicationError if any has been closed since."""
        lost = [str(number) for number, file in self._files.items() if _file_of(number) != file]
        if lost:
            noun = "descriptors" if len(lost) > 1 else "descriptor"
            raise ApplicationError(
                f"the application has closed {noun} {', '.join(lost)}, which forkserve needs; "
                "it may close only what it has opened (os.closerange, daemon libraries)"
            )


def _file_of(number: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
