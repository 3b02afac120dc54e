"""The opening handshake of a WebSocket without I/O: whether a request is one, what may be chosen, and the answer.

The `websockets` library does the checks (RFC 6455 section 4.2.1) and agrees on compression (RFC 7692).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidUpgrade
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

__all__ = ["BadHandshake", "Handshake", "WebSocketLimits"]

# As websockets recommends: a window of 4 KiB costs 40 kB a connection instead of 300, and compresses nearly as well.
DEFLATE: Final = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
)


class BadHandshake(Exception):
    """The request is not an acceptable WebSocket handshake; `status` is that of the HTTP answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """What one client may cost: the largest message in bytes, and whether messages may be compressed."""

    max_size: int = 16 * 1024 * 1024
    compression: bool = True


@dataclass(frozen=True, slots=True)
class Handshake:
    """A checked opening handshake: the data for the answer, and its choices."""

    accept: str
    extensions_header: str | None
    extensions: Sequence[Any]
    subprotocols: tuple[str, ...]

    @classmethod
    def check(cls, headers: Iterable[tuple[bytes, bytes]], target: str, limits: WebSocketLimits) -> Handshake:
        """Check a GET request for HTTP/1.1 with these headers (RFC 6455 section 4.2.1); raises BadHandshake."""
        fields = Headers()
        for name, value in headers:
            fields[name.decode("latin-1")] = value.decode("latin-1")
        negotiation = ServerProtocol(
            extensions=[DEFLATE] if limits.compression else None, select_subprotocol=lambda _self, _offered: None
        )
        try:
            accept, extensions_header, _ = negotiation.process_request(Request(target, fields))
        except InvalidUpgrade as error:
            raise BadHandshake(426, str(error)) from None
        except InvalidHandshake as error:
            raise BadHandshake(400, str(error)) from None
        offered = ",".join(fields.get_all("Sec-WebSocket-Protocol"))
        subprotocols = tuple(part.strip() for part in offered.split(",") if part.strip())
        return cls(accept, extensions_header, negotiation.extensions, subprotocols)

    def answer(self, subprotocol: str | None) -> list[tuple[bytes, bytes]]:
        """Return the fields of the 101 answer; raises ValueError when the client did not offer the subprotocol."""
        fields = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", self.accept.encode()),
        ]
        if self.extensions_header is not None:
            fields.append((b"Sec-WebSocket-Extensions", self.extensions_header.encode()))
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
            fields.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        return fields
