"""A response of the application to a WebSocket's handshake instead of accepting it (ASGI 3's extension
`websocket.http.response`).
"""

from __future__ import annotations

from typing import Any

from forkserve.serving.asgi.exchange import AsgiExchange

__all__ = ["Answer"]


class Answer(AsgiExchange):
    """The handshake as an HTTP exchange, for the response that an application may give instead.

    It is the last on its connection, since the client's next bytes may not be HTTP.
    """

    __slots__ = ()

    def may_keep(self) -> bool:
        """Return False."""
        return False

    def fields_of(self, headers: Any) -> list[tuple[bytes, bytes]]:
        """Return the application's header fields, and ours."""
        return list(headers)
