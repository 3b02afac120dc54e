"""What happens to an unexpected exception in the loop: one connection is closed, the worker serves on.

Rules: SystemExit and KeyboardInterrupt request the end of the process and pass. Everything else is logged, with its
traceback when it is the first of its kind. A loop that does nothing but fail ends its worker, which is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import time

from forkserve.serving.ends import End
from forkserve.serving.engine.acceptor import Acceptor
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.connections import Connections
from forkserve.serving.engine.phases import Phase
from forkserve.serving.engine.protocols import Runner
from forkserve.serving.http.refusal import Refusal

__all__ = ["Faults"]

log = logging.getLogger("forkserve.engine")

PASS = (SystemExit, KeyboardInterrupt)
QUIET = 10.0
"""Seconds between two lines about the same fault."""
KINDS = 64
"""Most faults that are told apart."""
PATIENCE = 100
"""Turns in a row, within a second, that may fail."""


class Faults:
    """The fault barrier of one driver."""

    def __init__(self, connections: Connections, acceptor: Acceptor, runner: Runner) -> None:
        self._connections = connections
        self._acceptor = acceptor
        self._runner = runner
        self._told: dict[tuple[type, int], float] = {}
        self._turns: list[float] = []

    def of(self, number: int, error: BaseException) -> None:
        """Close the connection with this descriptor, whose handling raised `error`; re-raises what may pass."""
        if isinstance(error, PASS):
            raise error
        self._tell(error)
        conn = self._connections.by_fd.get(number)
        if conn is not None:
            self._give_up(conn)
            return
        acceptor = self._acceptor
        for listening in acceptor.listenings:
            if listening.fd == number and not acceptor.draining:
                acceptor.pause(listening)

    def of_turn(self, error: BaseException) -> None:
        """Handle an error that belongs to no connection; re-raises it if it may pass, or if nothing but errors
        occurs.
        """
        if isinstance(error, PASS):
            raise error
        now = time.monotonic()
        self._turns.append(now)
        del self._turns[:-PATIENCE]
        if len(self._turns) == PATIENCE and now - self._turns[0] < 1.0:
            raise error
        self._tell(error)

    def _give_up(self, conn: Connection) -> None:
        """Close a connection, with 500 if its request has not begun to run."""
        connections, runner = self._connections, self._runner
        if conn.phase < Phase.RUNNING and conn.out is None:
            with contextlib.suppress(Exception):
                connections.refuse(conn, Refusal(500, "a fault of the server"))
                return
        exchange, conn.phase = conn.exchange, Phase.CLOSED
        with contextlib.suppress(Exception):
            if exchange is not None:
                exchange.end(End.LOST)
                # A response that waits for its client ends here; one that runs ends when it next sends.
                (runner.resume if conn.parked else runner.notify)(exchange)
        with contextlib.suppress(Exception):
            connections.close(conn)
        connections.by_fd.pop(conn.fd, None)

    def _tell(self, error: BaseException) -> None:
        # Where memory is short, so it may be for the log.
        with contextlib.suppress(Exception):
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            kind = (type(error), trace.tb_lineno if trace is not None else 0)
            now = time.monotonic()
            told = self._told.get(kind)
            if told is not None and now - told < QUIET:
                return
            if len(self._told) >= KINDS:
                self._told.clear()
            self._told[kind] = now
            log.error("a fault of the server ended one connection: %r", error, exc_info=error if told is None else None)
