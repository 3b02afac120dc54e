"""Runs a fuzzer in a child process, so that an input that kills the process is still told.

Rules: the fuzzer notes each input before it is tried, in memory that both processes share. A child that ends by a
signal, or with the status of a sanitizer, leaves there what ended it.
"""

from __future__ import annotations

import mmap
import os
import signal
import traceback
from collections.abc import Callable

__all__ = ["Note", "contained"]

ROOM = 1 << 17
"""Bytes of an input that are told, at most."""

Note = Callable[[bytes], None]
"""Notes the input that is tried next."""


def contained(fuzz: Callable[[Note], int]) -> int:
    """Return the exit status of `fuzz(note)`, run in a child; 1 if it died, after telling of what."""
    shared = mmap.mmap(-1, ROOM)

    def note(raw: bytes) -> None:
        raw = raw[: ROOM - 4]
        shared[: 4 + len(raw)] = len(raw).to_bytes(4, "big") + raw

    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = fuzz(note)
        except BaseException:  # noqa: BLE001  # the end of this process: told here, or nowhere
            traceback.print_exc()
        finally:
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(waited)
    if status in (0, 1):
        return status
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    size = int.from_bytes(shared[:4], "big")
    print(f"BROKEN by {shared[4 : 4 + size]!r}\n  the process died: {how}", flush=True)
    return 1
