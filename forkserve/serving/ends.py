"""How an exchange ends: the one table, for WSGI, ASGI and WebSockets, in Python and in C.

Rules: an exchange ends once, by `BaseExchange.end`, or with its response whole. If the application has sent nothing,
the client gets `status`; if a response has begun, only closing the connection tells the client that it is not whole.
A response that is whole, or shorter than its Content-Length, is ended by `BaseExchange.keeps_after`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["End", "Ending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What follows from one way to end.

    `status` is the answer if the application has sent nothing, 0 for none; `keeps`, whether the connection may take
    another request after it. `sends_head`, whether a pending head of an ASGI application is sent in place of the
    answer, so that the client gets its status. `traced`, whether the application's exception is logged; `message`, what
    else is logged, with method and path. If there is neither, the part that has ended the exchange has logged the
    reason, or there is none.
    """

    cause: str
    status: int = 0
    keeps: bool = False
    sends_head: bool = False
    traced: bool = False
    message: str = ""


class End(Enum):
    """The ways to end before the response is whole."""

    FAILED = Ending(cause="the application raised", status=500, keeps=True, traced=True)
    UNANSWERED = Ending(
        cause="the application returned without a response",
        status=500,
        keeps=True,
        message="%s %r: the application returned without a response",
    )
    UNFINISHED = Ending(
        cause="the application returned in the middle of its response",
        message="%s %r: the application returned without ending its response",
    )
    DISMISSED = Ending(
        cause="the application returned after it was told that nobody waits", status=503, keeps=True, sends_head=True
    )
    OVERDUE = Ending(cause="`--timeout` passed; the log shows where", status=504, keeps=True, sends_head=True)
    CANCELLED = Ending(
        cause="cancelled: the graceful timeout passed, or the client has left", status=503, keeps=True, sends_head=True
    )
    UNSTARTED = Ending(cause="`--timeout` passed before the application was called", status=503, keeps=True)
    STUCK = Ending(cause="interrupted without effect; the application may still run", status=504, sends_head=True)
    LOST = Ending(cause="the client has left")
    BROKEN_BODY = Ending(cause="the request's body is rejected; the engine answers with the reason")
    FAULT = Ending(cause="a fault of the server, logged where it happened")

    @property
    def status(self) -> int:
        """The answer if nothing was sent; 0 for none."""
        return self.value.status

    @property
    def sends_head(self) -> bool:
        """Whether a pending head of the application is sent in place of the answer."""
        return self.value.sends_head
