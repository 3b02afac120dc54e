"""One connection of the gateway: a request is read, checked, and passed on to the control socket, its answer returned.

The number of connections, a request's size and its time are limited; a connection carries one request. What a slow
reader does not take waits in the kernel and here up to a limit, then the master drops it, like any client that does not
read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import h11

from forkserve.sidecars.gateway.admission import Admission, Rejection

__all__ = ["ControlProxy"]

log = logging.getLogger("forkserve.gateway")

MOST_CONNECTIONS = 300
"""Each takes two descriptors, and one of the connections that the master serves."""
REQUEST_TIMEOUT = 10.0
"""Seconds for a whole request, without the TLS handshake."""
PENALTY = 0.5
"""Seconds until a request with a wrong token is answered."""
LARGEST_BODY = 64 * 1024
PORTION = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Request:
    head: h11.Request
    body: bytes


@dataclass(slots=True)
class ControlProxy:
    """Passes on the requests that `admission` accepts to the socket at `control`."""

    control: Path
    admission: Admission
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; never raises."""
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._serve(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal: Rejection | None = None
        request: _Request | None = None
        if len(self._open) > MOST_CONNECTIONS:
            refusal = Rejection(HTTPStatus.SERVICE_UNAVAILABLE, f"more than {MOST_CONNECTIONS} clients at once")
        else:
            try:
                request = await asyncio.wait_for(_read(reader), REQUEST_TIMEOUT)
            except h11.RemoteProtocolError as error:
                refusal = Rejection(HTTPStatus(error.error_status_hint), str(error))
        if request is not None:
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in request.head.headers}
            refusal = self.admission.judge(headers)
        if refusal is None and request is not None:
            await self._pass_on(request, writer)
            return
        assert refusal is not None
        if refusal.status is HTTPStatus.UNAUTHORIZED:
            log.warning("a request from %s is refused: %s", writer.get_extra_info("peername"), refusal.text)
            await asyncio.sleep(PENALTY)
        writer.write(_refused(refusal))
        await writer.drain()

    async def _pass_on(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asking = await asyncio.open_unix_connection(str(self.control))
        except OSError:
            writer.write(_refused(Rejection(HTTPStatus.BAD_GATEWAY, "the master cannot be reached")))
            await writer.drain()
            return
        try:
            asking.write(_forwarded(request))
            while portion := await answers.read(PORTION):
                writer.write(portion)
                await writer.drain()
        finally:
            asking.close()


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """Return the one request of a connection, None if it ends before; raises RemoteProtocolError."""
    protocol = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(PORTION))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > LARGEST_BODY:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _Request(head, bytes(body))
        else:
            return None


def _forwarded(request: _Request) -> bytes:
    head = h11.Request(
        method=request.head.method,
        target=request.head.target,
        headers=[("Host", "localhost"), ("Content-Length", str(len(request.body))), ("Connection", "close")],
    )
    connection = h11.Connection(h11.CLIENT)
    parts = (connection.send(each) for each in (head, h11.Data(data=request.body), h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


def _refused(refusal: Rejection) -> bytes:
    body = json.dumps({"error": refusal.text, "code": "refused"}).encode() + b"\n"
    more = "WWW-Authenticate: Bearer\r\n" if refusal.status is HTTPStatus.UNAUTHORIZED else ""
    head = (
        f"HTTP/1.1 {int(refusal.status)} {refusal.status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{more}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
