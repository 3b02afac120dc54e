"""One WSGI request and its response, exactly as PEP 3333 says; the backend decides how and where it runs.

Rules: when the client reads slowly, the exchange parks: `run` or `resume` returns, and the driver resumes it later; so
a slow reader occupies no thread and no more memory than the connection's queue. `close()` of the result is always
called, once. Whatever an application does ends in a response or a closed connection, at most one line in the log with
the user's traceback, and the connection's `done`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ClassVar

from forkserve.serving.ends import End
from forkserve.serving.exchange import GONE, BaseExchange
from forkserve.serving.failure import TimedOut, log_failure
from forkserve.serving.files import FileWrapper
from forkserve.serving.gateway.body import BodyBuffer, EmptyInput, LazyInput
from forkserve.serving.gateway.context import WsgiServingContext
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.response import JOINED, BadResponse, PreparedHead
from forkserve.serving.stream import Stream
from forkserve.serving.transport import NOBODY, Transport

__all__ = ["WsgiExchange"]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


MEMO = 8
"""Request lines for which the environ of shared header fields is cached."""


class WsgiExchange(BaseExchange):
    """A request and the response to it as far as it has come."""

    __slots__ = ("buffer", "context", "environ", "iterator", "prepared", "result", "stream", "whole")
    context: Any
    """For the backend, which may run it in a new context."""
    conn: Transport
    starts_at_head: ClassVar[bool] = False
    defers_body: ClassVar[bool] = False
    keeper: ClassVar[str] = "buffer"
    log: ClassVar[logging.Logger] = logging.getLogger("forkserve.wsgi")
    serving: ClassVar[WsgiServingContext]

    def __init__(self, conn: Transport, line: RequestLine, fields: Fields) -> None:
        self.conn = conn
        self.line = line
        self.fields = fields
        self.prepared: PreparedHead | None = None
        self.buffer: BodyBuffer | None = None
        self.stream: Stream | None = None
        memo = fields.memo
        base = memo.get(line) if memo else None
        if base is None:
            self.environ = self._environ()
        else:
            self.environ = environ = base.copy()
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = conn.remote

    def _environ(self) -> dict[str, Any]:
        """Build the environ; when fields occur again, cache what they and the line give."""
        fields = self.fields
        environ: dict[str, Any] = self.conn.listening.environ.copy()
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = self.conn.remote
        environ.update(self.line.environ)
        environ.update(fields.headers)
        memo = fields.memo
        if memo is None:
            # Once is enough: whether a proxy speaks in them depends on the fields alone.
            if self.serving.forwarding is not None and self.serving.forwarding.apply(environ, self.conn.remote):
                return environ
            fields.memo = {}
        elif self.line.again and len(memo) < MEMO:
            memo[self.line] = environ.copy()
        return environ

    # The request's body, from the loop.

    def body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.buffer is None:
            self.buffer = BodyBuffer(self.serving.body_in_memory)
        self.buffer.write(data)

    def body_end(self) -> None:
        """Called when the body is whole."""
        self.whole = True
        if self.buffer is not None and not (self.defers_body and self.fields.expect_continue):
            self.environ["wsgi.input"] = self.buffer.open()
            if self.fields.chunked:
                # The coding is undone; many an application reads nothing without a length, the one that PEP 3333 knows.
                self.environ["CONTENT_LENGTH"] = str(self.buffer.size)
                self.environ.pop("HTTP_TRANSFER_ENCODING", None)

    def body_held(self) -> None:
        """Ask for the body when the application first reads it."""
        self.environ["wsgi.input"] = LazyInput(self._fetch)

    def _fetch(self) -> Any:
        """Ask for the body that the client holds back (RFC 9110 10.1.1), and wait until it is whole."""
        if not self._is_whole():
            if self.stream is None and self.buffer is None:
                self.conn.proceed()
            self.serving.wait(self.conn, lambda: self._is_whole() or self.conn.lost)
        if not self._is_whole():
            raise ConnectionAbortedError("the client left before its body was whole")
        return self.buffer.open() if self.buffer is not None else EmptyInput()

    def _is_whole(self) -> bool:
        return getattr(self, "whole", False)

    # The response.

    def run(self) -> None:
        """Call the application and send its response."""
        try:
            self.answer(self.serving.app(self.environ, self.start_response))
        except BaseException as error:  # noqa: BLE001 - the fault barrier of one request
            self.fail(error)

    def answer(self, result: Iterable[bytes]) -> None:
        """Send what the application has returned."""
        serving, prepared = self.serving, self.prepared
        if (type(result) is list or type(result) is tuple) and prepared is not None and self.stream is None:
            data = result[0] if len(result) == 1 else b"".join(result)
            if (
                type(data) is bytes
                and prepared.is_fast_path
                and prepared.length == len(data) < JOINED
                and self.line.is_fast_path
                and self.fields.is_fast_path
                and self.buffer is None
                and serving.keep
            ):
                # What `whole` below would say, for the most usual response.
                self.conn.reply(prepared.head + serving.responder.end + data, True)
                if serving.noted:
                    self.note(prepared.code, len(data))
            else:
                self._reply(data)
            return
        self.result = result
        if isinstance(result, FileWrapper) and self._send_file(result):
            return
        self.iterator: Iterator[bytes] = iter(result)
        self._pump()

    def resume(self) -> None:
        """Continue after the client has read, or has left."""
        try:
            self._pump()
        except BaseException as error:  # noqa: BLE001 - the fault barrier of one request
            self.fail(error)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and headers; raises BadResponse for what cannot be sent, or the error of `exc_info`."""
        if exc_info is not None:
            try:
                if self.stream is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.prepared is not None:
            raise BadResponse("start_response was called twice without exc_info")
        responder = self.serving.responder
        # As they are now: to look them up may run code of the application that changes the list.
        pairs = tuple(headers) if type(headers) is list else headers
        try:
            prepared = responder.known.get((status, pairs))
        except TypeError:
            prepared = None
        if prepared is None:
            prepared = responder.prepare(status, pairs)
            if prepared.code < 200:
                raise BadResponse(f"the interim status {status!r} is the server's to send")
        self.prepared = prepared
        return self.write

    def write(self, data: bytes) -> None:
        """Send at once, as PEP 3333 requires of write(); waits for a client that reads slowly."""
        if type(data) is not bytes:
            raise BadResponse(f"write() takes bytes, got {type(data).__name__}")
        if getattr(self.conn, "exchange", self) is not self:
            # A thread of the application kept it: the bytes would be the answer to another request.
            raise BadResponse("write() was called after the response had ended")
        if data and not self._send(data):
            # If it is abandoned meanwhile, its connection is replaced.
            conn = self.conn
            conn.limit_write()
            try:
                self.serving.wait(conn, lambda: not self.conn.park())
            finally:
                conn.lift_limit()

    def _reply(self, data: bytes) -> None:
        """Send a response of one piece."""
        if type(data) is not bytes:
            raise BadResponse(f"a response consists of bytes, got {type(data).__name__}")
        line = self.line
        assert self.prepared is not None
        if len(data) >= JOINED:
            self.conn.write(self._begin(len(data))[1])
            self._send(data)
            self._finish()
            return
        payload, keep = self.serving.responder.whole(
            self.prepared, data, method=line.method, modern=line.modern, keep=self.may_keep()
        )
        if self.buffer is not None:
            self.buffer.close()
        self.conn.reply(payload, keep)
        self.note(self.prepared.code, len(payload) - payload.index(b"\r\n\r\n") - 4)

    def may_keep(self) -> bool:
        """Tell whether the connection can take another request after this one."""
        fields = self.fields
        # A body that is held back may come or not, and behind the handshake of a WebSocket frames may come: the next
        # request cannot be found. Any other Upgrade is ignored (RFC 9110 section 7.8).
        return (
            fields.keep_alive
            and self.serving.keep
            and (fields.upgrade is None or self.line.method != "GET" or not fields.asks_for_websocket)
            and (not fields.expect_continue or self._is_whole() or not (fields.content_length or fields.chunked))
        )

    def _begin(self, length: int | None = None) -> tuple[Stream, bytes]:
        """Frame the response; returns its stream, and its head."""
        if self.prepared is None:
            raise BadResponse("start_response was not called")
        line = self.line
        start = self.serving.responder.start(
            self.prepared, method=line.method, modern=line.modern, keep=self.may_keep(), length=length
        )
        self.stream = stream = Stream(start)
        return stream, start.head

    def _send(self, data: bytes) -> bool:
        stream = self.stream
        if stream is None:
            stream, head = self._begin()
            payload = head + stream.piece(data)
        else:
            payload = stream.piece(data)
        return not payload or self.conn.write(payload)

    def _pump(self) -> None:
        silent_since = 0.0
        for data in self.iterator:
            if type(data) is not bytes:
                raise BadResponse(f"a response consists of bytes, got {type(data).__name__}")
            if data:
                if not self._send(data) and self._parked():
                    return
                if self.stream.bodiless:  # type: ignore[union-attr]  # set by the first `_send`
                    break
                silent_since = 0.0
            else:
                # PEP 3333, "Handling of Streaming": middleware yields it while it waits, so the application goes on.
                silent_since = self.conn.beat(silent_since)
        self._finish()

    def _parked(self) -> bool:
        if self.serving.parks:
            return self.conn.park()
        self.serving.wait(self.conn, lambda: not self.conn.park())
        return False

    def _finish(self) -> None:
        """Mark the end of the response."""
        stream, head = self.stream, b""
        if stream is None:
            # An empty response; for HEAD the length of GET's is unknown.
            stream, head = self._begin(None if self.line.method == "HEAD" else 0)
        payload = head + stream.end()
        if payload:
            self.conn.write(payload)
        self._end(self.keeps_after(stream))
        self.note(self.prepared.code, stream.size)  # type: ignore[union-attr]

    def _send_file(self, wrapper: FileWrapper) -> bool:
        part = wrapper.part()
        if part is None or self.prepared is None or self._begun():
            return False
        offset, size = part
        stream, head = self._begin(size)
        before, count, behind = stream.file(size)
        if count:
            try:
                self.conn.write_file(wrapper.filelike, offset, count, head + before)
            except OSError:
                # Nothing is sent yet if descriptors have run out: there can be another answer.
                self.stream = None
                raise
        if not count or behind:
            self.conn.write(behind or head)
        self._finish()
        return True

    def _end(self, keep: bool) -> None:
        """Close what the application returned, and return the connection."""
        close = getattr(getattr(self, "result", None), "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001 - the response is out; whatever close() does is only logged
            log_failure(error, *self.name())
        if self.buffer is not None:
            self.buffer.close()
        self.conn.done(keep)

    # Ends, as the table in `serving.ends` has them.

    def end_by(self, error: BaseException) -> tuple[End, BaseException | None]:
        """Return the end for an exception; that of a lost client is not logged."""
        if isinstance(error, TimedOut):
            return End.OVERDUE, None
        return End.FAILED, None if isinstance(error, OSError) and self.conn.lost else error

    def on_client_end(self, how: End) -> bool:
        """Close a partial body; the application learns of the end on the connection, and may be reading a whole
        body.
        """
        partial = not self._is_whole() and not (self.defers_body and self.fields.expect_continue)
        if how is End.LOST and self.buffer is not None and partial:
            self.buffer.close()
        return False

    def cut_short(self, how: End) -> None:
        """Answer if nothing was sent; else only closing tells the client that the response is not whole."""
        conn, stream, keep = self.conn, self.stream, False
        if how is End.STUCK:
            # It runs on elsewhere, and nothing of it reaches the client any more.
            self.conn = NOBODY
        status = GONE if stream is None or self.prepared is None else self.prepared.code
        if stream is None and not conn.lost:
            payload, keep = self.error_page(how)
            try:
                conn.write(payload)
                status = how.status
            except OSError:
                keep = False
        if how is End.STUCK:
            conn.done(False)
        else:
            self._end(keep)
        self.note(status, 0 if stream is None else stream.size)

    def client(self) -> str:
        """Return the client's address, which the application may have changed in its environ."""
        address = self.environ.get("REMOTE_ADDR", "")
        return address if type(address) is str else str(address)

    def variables(self) -> dict[str, Any]:
        """Return the environ."""
        return self.environ

    def _begun(self) -> bool:
        return self.stream is not None
