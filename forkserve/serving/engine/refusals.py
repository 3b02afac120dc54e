"""What is refused before an application sees it: one line in the log for each, as far as a flood of them allows.

Rules: the line has the client's address, the status and the reason in our words; nothing that the client sent is in it.
A client must not be able to fill the disk, so at most LINES are written in a second, and one that says how many more
there were. An answer to a request that was never read whole is in the access log, as in nginx, with `-` for what is not
known.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from forkserve.serving.engine.access import AccessLog
from forkserve.serving.engine.protocols import ConnectionOwner
from forkserve.serving.http.accesslog import UNREAD, UNREAD_FIELDS
from forkserve.serving.http.refusal import Refusal
from forkserve.unix.counters import CounterField

if TYPE_CHECKING:
    from forkserve.serving.engine.connection import Connection

__all__ = ["Refusals"]

log = logging.getLogger("forkserve.engine")

REFUSED = int(CounterField.REFUSED)
LINES = 10
"""Most lines in a second."""
SECOND = 1.0


class Refusals:
    """Counts and logs the refusals of one loop; `untold` is how many have no line yet."""

    def __init__(self, owner: ConnectionOwner, access: AccessLog | None) -> None:
        self.untold = 0
        self._owner = owner
        self._access = access
        self._since = 0.0
        self._lines = 0

    def refused(self, conn: Connection, refusal: Refusal) -> None:
        """Called when a client is answered with an error status."""
        if refusal.status != 503:
            # That is no fault of the client; who answers so logs the reason.
            self._owner.counter.add(REFUSED)
            self._tell(conn, f"{refusal.status}, {refusal.reason}")

    def cut_off(self, conn: Connection, reason: str) -> None:
        """Called when a connection is closed without an answer, since there is no protocol for one."""
        self._owner.counter.add(REFUSED)
        self._tell(conn, reason)

    def tls_failed(self, conn: Connection, error: OSError) -> None:
        """Called when reading has failed: by a violation of TLS, or since the client has gone, which is no refusal."""
        # The attribute is that of an `ssl.SSLError`; where no TLS is configured, the module is not imported.
        reason = getattr(error, "reason", None)
        if reason:
            self.cut_off(conn, f"TLS failed, {str(reason).replace('_', ' ').lower()}")

    def answered(self, conn: Connection, exchange: Any, status: int, size: int) -> None:
        """Write the line of the access log for an error response to a request that no application has got.

        `exchange` is that of the request if its head was read, else None.
        """
        if self._access is not None:
            line, fields = getattr(exchange, "line", UNREAD), getattr(exchange, "fields", UNREAD_FIELDS)
            self._access.refused(conn.remote[0], line, fields, status, size)

    def sweep(self, now: float) -> None:
        """Say how many had no line, when their second is over."""
        if self.untold and now >= self._since + SECOND:
            self.close()

    def close(self) -> None:
        """Say how many had no line."""
        if self.untold:
            log.info("and %s more clients refused", f"{self.untold:,}")
            self.untold = 0

    def _tell(self, conn: Connection, what: str) -> None:
        now = self._owner.now
        self.sweep(now)
        if now >= self._since + SECOND:
            self._since, self._lines = now, 0
        if self._lines < LINES:
            self._lines += 1
            log.info("client %s refused: %s", _name(conn.remote), what)
        else:
            self.untold += 1


def _name(remote: tuple[str, str]) -> str:
    """Return a client's address for the log: that of a unix socket has none."""
    host, port = remote
    if not host:
        return "on a unix socket"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
