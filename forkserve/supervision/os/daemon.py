"""Going to the background without lying: the process that was called ends when the daemon has started, or failed.

Three processes, as daemon(7) has it: the one that was called waits for the one between, which leads the new session and
waits for the daemon to have settled, or to have failed with an exit code that is handed on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

__all__ = ["detached"]


@contextlib.contextmanager
def detached() -> Iterator[Callable[[], None]]:
    """Run the body in the background; gives what it calls once it has settled.

    Until then an exception out of the body finds the old stderr, so that what is wrong can be said there.
    """
    settling = _leave()
    errors = os.dup(2)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    has_settled = False

    def settled() -> None:
        nonlocal has_settled
        has_settled = True
        with contextlib.suppress(BrokenPipeError):  # whoever waited has been killed
            os.write(settling, b"\0")
        os.close(settling)
        os.close(errors)

    try:
        yield settled
    except BaseException:
        if not has_settled:
            os.dup2(errors, 2)
        raise


def _leave() -> int:
    """Return in the daemon alone, with the descriptor to write to when it has settled."""
    reading, writing = os.pipe()
    between = os.fork()
    if between > 0:
        os.close(writing)  # else the end of the daemon would never be the end of the pipe
        os._exit(_code_of(between))
    os.setsid()
    daemon = os.fork()
    if daemon > 0:
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else _code_of(daemon))
    os.close(reading)
    return writing


def _code_of(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
