"""Ends a verb that prints on and on when its reader has gone, as in `logs -f | grep -m1 ready`.

Theory of operation. A write would fail with EPIPE, but the next line may be long in coming. poll(2) reports POLLERR for
a pipe without readers at once, so a thread watches standard output, and then cuts off the answer that the verb reads.
"""

from __future__ import annotations

import select
import sys
import threading
from types import TracebackType
from typing import Self

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError

__all__ = ["WhileRead"]

_PATIENCE = 500
"""Milliseconds within which the thread notices that the verb has ended by itself."""


class WhileRead:
    """A block that ends without an error when standard output has no reader any more."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._is_over = threading.Event()
        self._has_lost = threading.Event()

    def __enter__(self) -> Self:
        fd = _descriptor()
        if fd is not None:
            threading.Thread(target=self._watch, args=(fd,), daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> bool:
        self._is_over.set()
        return isinstance(error, ControlError) and self._has_lost.is_set()

    def _watch(self, fd: int) -> None:
        poll = select.poll()
        poll.register(fd, 0)  # errors are always reported
        while not self._is_over.is_set():
            if poll.poll(_PATIENCE):
                self._has_lost.set()
                self._client.cut_off()
                return


def _descriptor() -> int | None:
    """Return that of standard output; None if it is closed, or a program that calls this keeps the text."""
    if sys.stdout is None:
        return None
    try:
        return sys.stdout.fileno()
    except ValueError:  # closed, or io.UnsupportedOperation
        return None
