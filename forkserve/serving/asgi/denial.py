"""What an application may say to a WebSocket's handshake instead of accepting it: a response (ASGI 3's extension
`websocket.http.response`)."""

from __future__ import annotations

from typing import Any

from forkserve.serving.asgi.exchange import AsgiExchange

__all__ = ["Answer"]


class Answer(AsgiExchange):
    """The handshake as a HTTP exchange: what is known of it, and the response that an application may give instead.

    It is the last on its connection, since the client's next bytes may be no HTTP.
    """

    __slots__ = ()

    def may_keep(self) -> bool:
        """Tell that it cannot."""
        return False

    def fields_of(self, headers: Any) -> list[tuple[bytes, bytes]]:
        """Return the application's header fields, and what we have to say."""
        return list(headers)
