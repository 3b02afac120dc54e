"""The response of one exchange, as its application sends it.

Rules: a response is sent in one call if it is in one piece; its head is sent first if the application waits before the
body. When the client reads slowly, `send` waits; when it has left, `send` raises an OSError: Disconnected, or that of
the socket. An application that has given a head and then takes too long gets no 504 in its place.
"""

from __future__ import annotations

import contextlib
import logging
from typing import ClassVar, NoReturn

from forkserve.serving.asgi.body_queue import BodyQueue
from forkserve.serving.asgi.context import AsgiServingContext, AsgiTransport, Disconnected, Message, Task
from forkserve.serving.asgi.files import AsgiFilePart, file_part, watched
from forkserve.serving.asgi.notifier import Notifier
from forkserve.serving.asgi.outgoing import body_bytes, early_hints, prepared_head, trailer_fields
from forkserve.serving.asgi.pace import Pace
from forkserve.serving.asgi.stage import ResponseStage
from forkserve.serving.ends import End
from forkserve.serving.exchange import GONE, BaseExchange
from forkserve.serving.http.response import JOINED, PreparedHead
from forkserve.serving.stream import Stream

__all__ = ["AsgiResponse"]

START, BODY, MORE, TRAILERS, OVER, LOST = ResponseStage
EVENTS = b"\r\ncontent-type: text/event-stream"
HEAD_DELAY = 0.005
"""Seconds that a head waits for its body while the application waits: most often they are sent together."""


class AsgiResponse(BaseExchange):
    """What was sent of a response, and what remains to be done."""

    __slots__ = (
        "aware",
        "incoming",
        "news",
        "pace",
        "prepared",
        "room",
        "stage",
        "stream",
        "task",
        "trailers",
        "verdict",
    )
    conn: AsgiTransport
    log: ClassVar[logging.Logger] = logging.getLogger("forkserve.asgi")
    serving: ClassVar[AsgiServingContext]
    stage: ResponseStage
    stream: Stream
    trailers: bool
    incoming: BodyQueue | None
    news: Notifier | None
    """Notified when there is something to receive."""
    room: Notifier | None
    """Notified when the client has read what was queued."""
    pace: Pace | None
    task: Task | None
    verdict: End | None
    """The end after the application has been cancelled; None while it was not."""
    aware: bool
    """Whether the application was told that its client has left."""

    # From the loop.

    def wake(self) -> None:
        """Check again whether what `receive` waits for has arrived."""
        if self.news is not None:
            self.news.notify()

    def resume(self) -> None:
        """Called when the client has read what was queued, or has left."""
        if self.room is not None:
            self.room.notify()

    # The application's side.

    async def send(self, message: Message) -> None:
        """Send a part of the response.

        Raises OSError when the client has left, RuntimeError or BadResponse for errors of the application.
        """
        kind, stage = message["type"], self.stage
        if kind == "http.response.start" and stage is START:
            self.prepared: PreparedHead = self._prepared(message)
            self.trailers = "trailers" in message and bool(message["trailers"])
            self.stage = BODY
            if self.task is not None:
                self.head_given()
        elif kind == "http.response.body" and (stage is BODY or stage is MORE):
            data, more = message.get("body", b""), message.get("more_body", False)
            if type(data) is not bytes:
                data = body_bytes(data)
            if stage is BODY and not more and not self.trailers:
                self._reply(data)
            else:
                await self._piece(data, more)
        elif stage is LOST:
            await self._pace()
            self._raise_lost()
        else:
            await self._unusual(kind, message)

    def _prepared(self, message: Message) -> PreparedHead:
        responder, headers = self.serving.responder, message.get("headers")
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
            self._write(early_hints(self.serving.responder, message) if self.line.modern else b"")
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
        line, prepared, serving, responder = self.line, self.prepared, self.serving, self.serving.responder
        if (
            prepared.is_fast_path
            and prepared.length == len(data) < JOINED
            and line.is_fast_path
            and self.incoming is None
            and self.fields.keep_alive
            and serving.keep
        ):
            # What `whole` below would say, for the most usual response.
            payload, keep = prepared.head + responder.end + data, True
            self.stage = OVER
            if self.news is not None:
                self.news.notify()
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
        if serving.noted:
            self.note(prepared.code, len(data))

    def _begin(self, length: int | None) -> bytes:
        """Frame the response; returns its head."""
        line = self.line
        start = self.serving.responder.start(
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
        payload = head + self.stream.piece(data)
        if not payload:
            await self._pace()
        elif not self._write(payload):
            await self._drained()
        if not more:
            self._end_body()

    async def _file(self, message: Message) -> None:
        """Send a file, or a part of one."""
        part = file_part(message)
        try:
            if part.sized:
                await self._send_file(part)
            else:
                await self._read_out(part)
        finally:
            part.close()
        if not part.more:
            self._end_body()

    async def _send_file(self, part: AsgiFilePart) -> None:
        """Send a file by sendfile(2)."""
        head, stage = b"", self.stage
        if stage is BODY:
            head = self._begin(part.count if not (part.more or self.trailers) else None)
        before, count, behind = self.stream.file(part.count)
        if count:
            self._write_file(part, count, head + before, stage)
            self._write(behind)
        else:
            self._write(head + before)
        if part.more:
            await self._drained()

    def _write_file(self, part: AsgiFilePart, count: int, head: bytes, stage: ResponseStage) -> None:
        """Queue the part after `head`; back to `stage` if there is no descriptor for it. Raises OSError."""
        try:
            self.conn.write_file(part.file, part.offset or 0, count, head)
        except OSError:
            self.stage = stage
            if self.conn.lost:
                self.lose()
            raise

    async def _read_out(self, part: AsgiFilePart) -> None:
        """Send what is read from a file, as it arrives."""
        if self.stage is BODY:
            self.send_head()
        done = 0
        while done < part.count:
            if part.waits:
                await self._readable(part)
            block = part.read(done)
            if block == b"":
                break
            if block is not None:
                done += len(block)
                await self._piece(block, True)

    async def _readable(self, part: AsgiFilePart) -> None:
        """Wait until a file is readable. Raises OSError when the client has left."""
        news = self.news = self.news or Notifier(self.serving.loop)
        come: list[bool] = []

        def ready() -> None:
            come.append(True)
            news.notify()

        with watched(self.serving.loop, part.file, ready) as waits:
            while waits and not come and self.stage is not LOST:
                await news.wait()
                if self.conn.half_closed:
                    self.lose()
        if self.stage is LOST:
            self._raise_lost()

    def _end_body(self) -> None:
        if self.trailers:
            self.stage = TRAILERS
        else:
            self._finish()

    def _trailers(self, message: Message) -> None:
        self.stream.trail(trailer_fields(self.serving.responder, message))
        if not message.get("more_trailers"):
            self._finish()

    def _finish(self) -> None:
        stream = self.stream
        self._write(stream.end())
        keep = self.keeps_after(stream)
        self._over()
        self.conn.done(keep)
        if self.serving.noted:
            self.note(self.prepared.code, stream.size)

    def _over(self) -> None:
        self.stage = OVER
        if self.incoming is not None:
            self.incoming.release()
        if self.news is not None:
            self.news.notify()

    def may_keep(self) -> bool:
        """Tell whether the connection can take another request after this one."""
        incoming = self.incoming
        # A client that holds back a body that we did not ask for may send it or not: the next request cannot be found.
        return self.fields.keep_alive and self.serving.keep and (incoming is None or not incoming.expected)

    def _write(self, data: bytes) -> bool:
        """Send, or queue; False if the client is behind. Raises OSError."""
        if not data:
            return True
        try:
            return self.conn.write(data)
        except OSError:
            self.lose()
            self.aware = True
            raise

    async def _drained(self) -> None:
        """Wait until the client has read what is queued. Raises OSError."""
        if self.conn.park():
            self.room = self.room or Notifier(self.serving.loop)
            await self.room.wait()
        if self.stage is LOST:
            self._raise_lost()

    def _raise_lost(self) -> NoReturn:
        self.aware = True
        raise Disconnected("the client has gone")

    async def _pace(self) -> None:
        """Give others a turn, if the application goes on as if nothing had happened."""
        self.pace = self.pace or Pace(self.serving.loop)
        await self.pace.step()

    # Ends.

    def lose(self) -> None:
        """Called when the client has left: wakes the application where it waits."""
        is_new, self.stage = self.stage is not LOST, LOST
        self.conn.done(False)
        if is_new:
            self._note_cut()
        self.wake()
        self.resume()

    def _note_cut(self) -> None:
        """Record a response that ends before it is whole, with what the client got of it."""
        if self.serving.noted:
            begun = hasattr(self, "stream")
            self.note(self.prepared.code if begun else GONE, self.stream.size if begun else 0)

    def cut_short(self, how: End) -> None:
        """Answer in place of the application, or send its pending head, and close what is not whole."""
        if self.stage is BODY and how.sends_head:
            self.send_head()
        elif self.stage is START or self.stage is BODY:
            self._answer(how)
        self._close()

    def suspended(self) -> None:
        """Called when the application waits: its pending head is sent, unless its body follows very soon."""
        if self.stage is BODY:
            self.serving.loop.call_later(HEAD_DELAY, self.send_head)

    def head_given(self) -> None:
        """Called when the head came later than in the first step: check again when the application waits."""
        self.serving.look_later(self)

    def send_head(self) -> None:
        """Send the head, unless it was sent."""
        if self.stage is BODY:
            try:
                self.conn.write(self._begin(None))
            except OSError:
                self.lose()

    @property
    def deserted(self) -> bool:
        """True for a response that has begun, whose client has left, and whose application cannot know that."""
        gone = self.stage is LOST or (self.conn.half_closed and (self.stage is MORE or self.stage is TRAILERS))
        return gone and not self.aware and not self.verdict and hasattr(self, "stream")

    @property
    def streams_events(self) -> bool:
        """True while it sends server-sent events (text/event-stream)."""
        return self.stage is MORE and EVENTS in self.prepared.head.lower()

    def _answer(self, how: End) -> None:
        payload, keep = self.error_page(how)
        self._over()
        try:
            self.conn.reply(payload, keep)
        except OSError:
            self.lose()
            return
        if self.serving.noted:
            self.note(how.status, 0)

    def _close(self) -> None:
        """Close, if the response has not ended: only that tells the client that it is not whole.

        A stream of events never is, and its client reconnects: it ends like any body when serving ends.
        """
        if self.streams_events and not self.serving.keep:
            with contextlib.suppress(OSError):
                self._write(self.stream.end())
        if self.stage is not OVER and self.stage is not LOST:
            self._over()
            self.conn.done(False)
            self._note_cut()
