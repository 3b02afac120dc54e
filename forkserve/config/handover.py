"""What the master tells a process through the environment, besides the protocols of systemd: which one it is, how long
it may drain, and where it sees its siblings.

Rules: pure. Both sides, which never import each other, take the names from here. LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES
and NOTIFY_SOCKET are sd_listen_fds(3) and sd_notify(3) and are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "FAILED",
    "GRACEFUL_TIMEOUT",
    "OWN_QUEUES",
    "PAGE",
    "PROCESS_NAME",
    "RETRY_AFTER",
    "REFORK",
    "REFORK_AFTER",
    "SCOREBOARD",
    "WARM",
    "REHEARSE",
    "TAKE_OVER",
    "WATCHER",
    "WID",
    "ZYGOTE",
    "ZYGOTE_WID",
    "Identity",
    "drain_limit",
    "identity_from",
]

WATCHER = "FORKSERVE_WATCHER"
WID = "FORKSERVE_WID"
PROCESS_NAME = "FORKSERVE_PROCESS_NAME"
"""The name of a process by `process_name`, if it has one."""
SCOREBOARD = "FORKSERVE_SCOREBOARD"
"""FD:BELL:INDEX, the descriptors of the shared memory and of its bell, and the number of this process's record."""
OWN_QUEUES = "FORKSERVE_OWN_QUEUES"
"""1 for a process whose siblings on the scoreboard read from other queues: it leaves no connection to them."""
PAGE, RETRY_AFTER = "FORKSERVE_PAGE", "FORKSERVE_RETRY_AFTER"
"""For a responder: the file of its page, and the seconds that it tells clients to wait."""
GRACEFUL_TIMEOUT = "FORKSERVE_GRACEFUL_TIMEOUT"
"""The drain limit of a worker without `--graceful-timeout`."""
ZYGOTE = "FORKSERVE_ZYGOTE"
"""The descriptor on which a zygote gets its orders; no other process has it."""
REFORK = "FORKSERVE_REFORK"
"""The descriptor on which a worker gets the order to become a zygote once drained."""
REFORK_AFTER = "FORKSERVE_REFORK_AFTER"
"""Requests after which a worker reports that it is warm; `--refork-after` of a worker without that flag."""
WARM = "X_FORKSERVE_WARM"
"""What a warm worker sends to its notify socket, with the value 1."""
ZYGOTE_WID = 0
"""The number of a zygote, which has no slot: slots begin with 1."""

REHEARSE, TAKE_OVER, FAILED = "--rehearse-upgrade", "--take-over", "--failed"
"""Flags by which `forkserve` is executed in an upgrade, with a descriptor, and finally with the reason why newer code
gave up. Versions that do not know them end with an error.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """The watcher's name, the number of the slot within it, and the name that the slot has besides (`process_name`)."""

    watcher: str
    wid: int
    own: str = ""

    def __str__(self) -> str:
        if self.own:
            return f"{self.watcher}:{self.own}"
        return f"{self.watcher} zygote" if self.wid == ZYGOTE_WID else f"{self.watcher}[{self.wid}]"

    def variables(self) -> dict[str, str]:
        """Return the variables for the process."""
        return {WATCHER: self.watcher, WID: str(self.wid), **({PROCESS_NAME: self.own} if self.own else {})}


def identity_from(environ: Mapping[str, str]) -> Identity | None:
    """Return which process this is, or None if no forkserve has started it."""
    watcher, wid = environ.get(WATCHER, ""), environ.get(WID, "")
    return Identity(watcher, int(wid), environ.get(PROCESS_NAME, "")) if watcher and wid.isdecimal() else None


def drain_limit(graceful_timeout: float) -> str:
    """Return the seconds for which a process may drain before the master, after `graceful_timeout`, kills it.

    A tenth less, and at most a second less: so the process itself cuts the requests in flight, and can log that.
    """
    return f"{graceful_timeout - min(1.0, graceful_timeout / 10):g}"
