"""One HTTP request and its response, as ASGI 3 has it.

Rules: `receive` and `send` never wait when they need not, so most applications end in the first step of their task. A
response goes out in one call when it is of one piece. When the client reads slowly, `send` waits; when it has gone,
`send` raises OSError and `receive` says `http.disconnect`. The connection is free for the next request as soon as the
response is whole, whatever the application still does. What an application does wrong ends in an exception in its
`send`, a response or a closed connection, and one line in the log with the user's traceback.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from forkserve.serving.asgi.bell import Bell
from forkserve.serving.asgi.incoming import Incoming
from forkserve.serving.asgi.outgoing import FilePart, body_bytes, early_hints, file_part, prepared_head, trailer_fields
from forkserve.serving.asgi.site import Message, Site, Task, Transport
from forkserve.serving.asgi.stream import Stage, Stream
from forkserve.serving.exchange import BaseExchange
from forkserve.serving.failure import TimedOut, due_to_loss, log_failure
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.response import JOINED, Prepared

__all__ = ["Exchange"]

log = logging.getLogger("forkserve.asgi")


START, BODY, MORE, TRAILERS, OVER, LOST = Stage


class Exchange(BaseExchange):
    """A request and the response to it as far as it has come."""

    __slots__ = (
        "identity",
        "incoming",
        "news",
        "prepared",
        "room",
        "stage",
        "stream",
        "task",
        "told",
        "trailers",
        "verdict",
        "__weakref__",
    )
    conn: Transport
    early: ClassVar[bool] = True
    holds: ClassVar[bool] = True
    keeper: ClassVar[str] = "incoming"
    site: ClassVar[Site]

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        self.conn = conn
        self.line = line
        self.fields = fields
        self.stage = START
        self.told = False
        self.trailers = False
        self.incoming: Incoming | None = None
        self.news: Bell | None = None
        self.room: Bell | None = None
        self.task: Task | None = None
        self.verdict = 0
        if fields.content_length or fields.chunked:
            self.incoming = Incoming(conn, expected=fields.expect_continue)

    # From the loop.

    def body(self, data: bytes) -> None:
        """Take a piece of the body."""
        assert self.incoming is not None
        self.incoming.add(data)
        self.wake()

    def body_end(self) -> None:
        """Know that the body is whole."""
        assert self.incoming is not None
        self.incoming.whole = True
        self.wake()

    def body_held(self) -> None:
        """Ask for the body when the application first wants it: `Incoming` knows."""

    def lost(self) -> None:
        """Know that the client has gone."""
        if self.stage is not OVER and self.stage is not LOST:
            self.lose()

    def wake(self) -> None:
        """Look again whether what `receive` waits for has come."""
        if self.news is not None:
            self.news.ring()

    def resume(self) -> None:
        """Know that the client has read what was queued, or has gone."""
        if self.room is not None:
            self.room.ring()

    def let_go(self) -> bool:
        """Leave the answer to the driver, if the application has not begun one; it is told that its client has gone."""
        if self.stage is not START and self.stage is not BODY:
            return False
        self.lose()
        return True

    def abandon(self, code: int) -> None:
        """Answer in place of an application that does not end."""
        if self.stage is START or self.stage is BODY:
            self._answer(code)
        self._close()

    # The application's side.

    async def run(self) -> None:
        """Call the application and see to it that its response ends."""
        site = self.site
        scope = site.scope(self.conn, self.line, self.fields, site.state)
        if site.noted:
            self.note_scope(scope)
        try:
            await site.app(scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 - the fault barrier of one request
            self._fail(error)
            return
        self.returned()

    def returned(self) -> None:
        """Know that the application has returned: what it left undone is ended."""
        if self.stage is not OVER and self.stage is not LOST:
            if self.conn.half_closed or self.site.leaving:
                # It was told that nobody waits any more.
                self.abandon(503)
                return
            what = "a" if self.stage is START or self.stage is BODY else "ending its"
            log.error("%s %r: the application returned without %s response", *self.name(), what)
            self.abandon(500)

    async def receive(self) -> Message:
        """Return the next piece of the body, or wait for the client to go, or the response to end."""
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
        while not (self._deaf() or self.conn.half_closed or self.site.leaving):
            await self._news()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the response.

        Raises OSError when the client has gone, RuntimeError or BadResponse for what is wrong.
        """
        kind, stage = message["type"], self.stage
        if kind == "http.response.start" and stage is START:
            self.prepared: Prepared = self._prepared(message)
            self.trailers = "trailers" in message and bool(message["trailers"])
            self.stage = BODY
        elif kind == "http.response.body" and (stage is BODY or stage is MORE):
            data, more = message.get("body", b""), message.get("more_body", False)
            if type(data) is not bytes:
                data = body_bytes(data)
            if stage is BODY and not more and not self.trailers:
                self._reply(data)
            else:
                await self._piece(data, more)
        elif stage is LOST:
            raise OSError("the client has gone")
        else:
            await self._unusual(kind, message)

    def _prepared(self, message: Message) -> Prepared:
        responder, headers = self.site.responder, message.get("headers")
        if type(headers) is not list:  # any iterable will do, also one that can be gone through only once
            message = message | {"headers": list(headers or ())}
        try:
            prepared = responder.known.get((message["status"], tuple(message["headers"])))
        except (KeyError, TypeError):
            prepared = None
        if prepared is None or prepared.code < 200:
            prepared = prepared_head(responder, message)
        return prepared

    async def _unusual(self, kind: str, message: Message) -> None:
        stage = self.stage
        if kind == "http.response.early_hint" and stage is START:
            self._write(early_hints(self.site.responder, message) if self.line.modern else b"")
        elif kind in ("http.response.pathsend", "http.response.zerocopysend") and stage in (BODY, MORE):
            await self._file(message)
        elif kind == "http.response.trailers" and stage is TRAILERS:
            self._trailers(message)
        elif stage is OVER:
            raise RuntimeError(f"{kind!r} was sent after the response had ended")
        else:
            expected = "http.response.start" if stage is START else "http.response.body"
            raise RuntimeError(f"{kind!r} was sent where {expected!r} is expected")

    # The response.

    def _reply(self, data: bytes) -> None:
        """Send a response of one piece."""
        line, prepared, site, responder = self.line, self.prepared, self.site, self.site.responder
        if (
            prepared.plain
            and prepared.length == len(data) < JOINED
            and line.plain
            and self.incoming is None
            and self.fields.keep_alive
            and site.keep
        ):
            # What `whole` below would say, for the most usual response.
            payload, keep = prepared.head + responder.end + data, True
            self.stage = OVER
            if self.news is not None:
                self.news.ring()
        elif len(data) >= JOINED:
            self._write(self._begin(len(data)))
            self._write(self.stream.piece(data))
            self._finish()
            return
        else:
            payload, keep = responder.whole(
                prepared, data, method=line.method, modern=line.modern, keep=self.may_keep()
            )
            self._over()
        try:
            self.conn.reply(payload, keep)
        except OSError:
            self.lose()
            raise
        if site.noted:
            self.note(prepared.code, len(data))

    def note_scope(self, scope: dict[str, Any]) -> None:
        """Know the scope before the application does, where exchanges are noted."""

    def _begin(self, length: int | None) -> bytes:
        """Frame the response; returns its head."""
        line = self.line
        start = self.site.responder.start(
            self.prepared, method=line.method, modern=line.modern, keep=self.may_keep(), length=length
        )
        self.stream = Stream(start)
        self.stage = MORE
        # The application has begun to answer in time; how long an answer may last is for the client to say.
        self.conn.be_patient()
        return start.head

    async def _piece(self, data: bytes, more: bool) -> None:
        head = b""
        if self.stage is BODY:
            head = self._begin(None if more or self.trailers else len(data))
        if not self._write(head + self.stream.piece(data)):
            await self._drained()
        if not more:
            self._end_body()

    async def _file(self, message: Message) -> None:
        """Send a file, or a part of one, by sendfile(2)."""
        part, stage = file_part(message), self.stage
        try:
            head = b""
            if self.stage is BODY:
                head = self._begin(part.count if not (part.more or self.trailers) else None)
            before, count, behind = self.stream.file(part.count)
            if count:
                self._write_file(part, count, head + before, stage)
                self._write(behind)
            else:
                self._write(head + before)
            if part.more:
                await self._drained()
        finally:
            part.close()
        if not part.more:
            self._end_body()

    def _write_file(self, part: FilePart, count: int, head: bytes, stage: Stage) -> None:
        """Queue the part behind `head`; back to `stage` if there is no descriptor for it. Raises OSError."""
        try:
            self.conn.write_file(part.file, part.offset, count, head)
        except OSError:
            self.stage = stage
            if self.conn.lost:
                self.lose()
            raise

    def _end_body(self) -> None:
        if self.trailers:
            self.stage = TRAILERS
        else:
            self._finish()

    def _trailers(self, message: Message) -> None:
        self.stream.trail(trailer_fields(self.site.responder, message))
        if not message.get("more_trailers"):
            self._finish()

    def _finish(self) -> None:
        stream = self.stream
        self._write(stream.end())
        if stream.missing:
            log.warning("%s %r: the body is %d bytes shorter than its Content-Length", *self.name(), stream.missing)
        self._over()
        self.conn.done(stream.keep and not stream.missing)
        if self.site.noted:
            self.note(self.prepared.code, stream.size)

    def _over(self) -> None:
        self.stage = OVER
        if self.incoming is not None:
            self.incoming.release()
        if self.news is not None:
            self.news.ring()

    def may_keep(self) -> bool:
        """Tell whether the connection can take another request after this one."""
        incoming = self.incoming
        # Who holds back a body that we did not ask for may send it or not: the next request cannot be found.
        return self.fields.keep_alive and self.site.keep and (incoming is None or not incoming.expected)

    def _write(self, data: bytes) -> bool:
        """Send, or queue; False when the client is behind. Raises OSError."""
        if not data:
            return True
        try:
            return self.conn.write(data)
        except OSError:
            self.lose()
            raise

    async def _drained(self) -> None:
        """Wait until the client has read what is queued. Raises OSError."""
        if self.conn.park():
            self.room = self.room or Bell(self.site.loop)
            await self.room.wait()
        if self.stage is LOST:
            raise OSError("the client has gone")

    async def _news(self) -> None:
        self.news = self.news or Bell(self.site.loop)
        await self.news.wait()

    def _deaf(self) -> bool:
        """True when nothing more comes from the client for this exchange."""
        return self.stage is OVER or self.stage is LOST

    def lose(self) -> None:
        """Know that the client has gone, and tell the application where it waits."""
        self.stage = LOST
        self.conn.done(False)
        self.wake()
        self.resume()

    # Failures.

    def _fail(self, error: BaseException) -> None:
        """Log what the application raised, and answer 500, or 504 if it was interrupted."""
        if isinstance(error, TimedOut) or (self.verdict and isinstance(error, asyncio.CancelledError)):
            self.abandon(self.verdict or 504)
            return
        if not (self.stage is LOST and due_to_loss(error)):
            log_failure(error, *self.name())
        self.abandon(500)

    def _answer(self, code: int) -> None:
        payload, keep = self.error_page(code)
        self._over()
        try:
            self.conn.reply(payload, keep)
        except OSError:
            self.lose()
        if self.site.noted:
            self.note(code, 0)

    def _close(self) -> None:
        """Close, if the response has not ended: only that tells the client that it is not whole."""
        if self.stage is not OVER and self.stage is not LOST:
            self._over()
            self.conn.done(False)

    def interrupt(self, code: int) -> None:
        """Cancel the application; `code` is the answer if it has not begun one."""
        self.verdict = code
        if self.task is not None:
            self.task.cancel()
