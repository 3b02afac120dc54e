"""One HTTP request and its response, as ASGI 3 has it.

Rules: `receive` and `send` never wait unnecessarily, so most applications end in the first step of their task. When the
client has left, `receive` returns `http.disconnect`; `response.py` defines how a response is sent. The connection is
free for the next request as soon as the response is whole, whatever the application still does. An error of the
application becomes an exception in its `send`, a response or a closed connection, and one line in the log with the
user's traceback.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from forkserve.serving.asgi.body_queue import BodyQueue
from forkserve.serving.asgi.context import AsgiServingContext, AsgiTransport, Message
from forkserve.serving.asgi.notifier import Notifier
from forkserve.serving.asgi.response import AsgiResponse
from forkserve.serving.asgi.stage import ResponseStage
from forkserve.serving.ends import End
from forkserve.serving.failure import TimedOut, due_to_loss
from forkserve.serving.http.accesslog import REQUEST_ID
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["AsgiExchange"]

START, BODY, MORE, TRAILERS, OVER, LOST = ResponseStage


class AsgiExchange(AsgiResponse):
    """A request and the response to it as far as it has come."""

    __slots__ = ("address", "identity", "told")
    address: str
    """The address of the client, if exchanges are recorded."""
    conn: AsgiTransport
    starts_at_head: ClassVar[bool] = True
    defers_body: ClassVar[bool] = True
    keeper: ClassVar[str] = "incoming"
    serving: ClassVar[AsgiServingContext]

    def __init__(self, conn: AsgiTransport, line: RequestLine, fields: Fields) -> None:
        self.conn = conn
        self.line = line
        self.fields = fields
        self.stage = START
        self.aware = False
        self.told = False
        self.trailers = False
        self.incoming = None
        self.news = None
        self.pace = None
        self.room = None
        self.task = None
        self.verdict = None
        if fields.content_length or fields.chunked:
            self.incoming = BodyQueue(conn, expected=fields.expect_continue)

    # From the loop.

    def body(self, data: bytes) -> None:
        """Take a piece of the body."""
        assert self.incoming is not None
        self.incoming.add(data)
        self.wake()

    def body_end(self) -> None:
        """Called when the body is whole."""
        assert self.incoming is not None
        self.incoming.whole = True
        self.wake()

    def body_held(self) -> None:
        """Ask for the body when the application first wants it: `BodyQueue` knows."""

    def on_client_end(self, how: End) -> bool:
        """Notify the application; if it has not begun, the engine answers a rejected body."""
        if how is End.BROKEN_BODY and self.stage is not START and self.stage is not BODY:
            return False
        if self.stage is not OVER and self.stage is not LOST:
            if how is End.BROKEN_BODY:
                self.stage = LOST  # what the engine answers is no end of a response of ours
            self.lose()
        return True

    # The application's side.

    async def run(self) -> None:
        """Call the application and make sure that its response ends."""
        serving = self.serving
        try:
            scope = serving.scope(self.conn, self.line, self.fields, serving.state)
            if serving.scoped:
                self.note_scope(scope)
            await serving.app(scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 - the fault barrier of one request
            self.fail(error)
            return
        self.returned()

    def returned(self) -> None:
        """Called when the application has returned: an unfinished response is ended."""
        if self.stage is not OVER and self.stage is not LOST:
            if self.conn.half_closed or self._is_dismissed():
                self.end(End.DISMISSED)
            else:
                self.end(End.UNANSWERED if self.stage is START or self.stage is BODY else End.UNFINISHED)

    def note_scope(self, scope: dict[str, Any]) -> None:
        """Called with the scope before the application gets it, if exchanges are recorded."""
        client = scope["client"]
        self.address = client[0] if client is not None else ""

    def client(self) -> str:
        """Return the client's address; that of the connection, if the application has not been called."""
        address: str = getattr(self, "address", self.conn.remote[0])
        return address

    def variables(self) -> dict[str, Any]:
        """Return the id of the request, if it has one."""
        return {REQUEST_ID: self.identity} if hasattr(self, "identity") else {}

    async def receive(self) -> Message:
        """Return the next piece of the body, or wait until the client leaves or the response ends."""
        if not (self.told or self._deaf()):
            incoming = self.incoming
            if incoming is None:
                self.told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.stage is START and not incoming.whole:
                incoming.ask()
            while not (incoming.ready or self._deaf()):
                await self._news()
            if not self._deaf():
                self.told = incoming.whole
                return {"type": "http.request", "body": incoming.take(), "more_body": not incoming.whole}
        while not (self._deaf() or self.conn.half_closed or self._is_dismissed()):
            await self._news()
        self.aware = True
        await self._pace()
        return {"type": "http.disconnect"}

    async def _news(self) -> None:
        self.news = self.news or Notifier(self.serving.loop)
        await self.news.wait()

    def _is_dismissed(self) -> bool:
        """Tell whether the application must be told that its client has left, since serving ends."""
        return self.serving.leaving or self in self.serving.dismissed

    def _deaf(self) -> bool:
        """True if nothing more can arrive from the client for this exchange."""
        return self.stage is OVER or self.stage is LOST

    # Ends, as the table in `serving.ends` has them.

    def end_by(self, error: BaseException) -> tuple[End, BaseException | None]:
        """Return the end for an exception: our cancellation, or a failure; not logged if due to a lost client."""
        if isinstance(error, TimedOut) or (self.verdict and isinstance(error, asyncio.CancelledError)):
            return self.verdict or End.OVERDUE, None
        return End.FAILED, None if self.stage is LOST and due_to_loss(error) else error

    def cancel(self, how: End) -> None:
        """Cancel the application; the exchange ends with this when the cancellation has reached it."""
        self.verdict = how
        if self.task is not None:
            self.task.cancel()
