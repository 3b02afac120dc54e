"""Which exchange a request gets: a WebSocket for a handshake, if the library for it is installed; else HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

from forkserve.config.serving import AsgiOptions
from forkserve.serving.asgi.context import AsgiServingContext, AsgiTransport
from forkserve.serving.asgi.exchange import AsgiExchange
from forkserve.serving.asgi.identified import AsgiIdentified
from forkserve.serving.asgi.scope import FORWARDED, MODERN, ScopeTemplate, correct
from forkserve.serving.asgi.stage import ResponseStage
from forkserve.serving.binding import Binding
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.response import PreparedHead
from forkserve.serving.native import hot

__all__ = ["exchange_factory"]

log = logging.getLogger("forkserve.asgi")

if hot is not None:
    # For applications that make a task of what `send` returns (asyncio.iscoroutine).
    Coroutine.register(hot.Done)

Factory = Callable[[AsgiTransport, RequestLine, Fields], Any]


def exchange_factory(
    serving: AsgiServingContext, options: AsgiOptions, *, access: Any = None, counter: Any = None, identity: str = ""
) -> Factory:
    """Return the function that makes the exchange of a request; it raises Refusal for an invalid handshake.

    `access` is the `forkserve.serving.engine.access.AccessLog` for a line of each, if any; `identity` is the field with
    the id of a request, if any; `counter` counts them, if given.
    """
    binding = Binding(
        context=serving,
        access=access,
        counter=counter,
        identified=AsgiIdentified if identity else None,
        attributes={"header": identity},
    )
    http = binding.make("BoundExchange", AsgiExchange)
    serving.scoped = serving.logged or bool(identity)
    if hot is None:
        http = binding.instrument(http)
    else:
        pattern = http(None, None, Fields([], None, True))
        kinds = RequestLine, Fields, PreparedHead
        scopes = serving.scope, ScopeTemplate, MODERN, FORWARDED, correct
        sender = hot.Sender(pattern, AsgiExchange, serving, binding.line, counter, ResponseStage, scopes, kinds)
        http, serving.scope = sender.begin, sender.scope
    upgraded = _websockets(options, binding) if find_spec("websockets") is not None else _refuse

    def exchange_for(conn: AsgiTransport, line: RequestLine, fields: Fields) -> Any:
        if fields.upgrade is not None and line.method == "GET" and fields.upgrade.lower() == b"websocket":
            return upgraded(conn, line, fields)
        return http(conn, line, fields)

    return exchange_for


def _websockets(options: AsgiOptions, binding: Binding) -> Factory:
    # These need the library, which is an extra.
    from forkserve.serving.asgi.denial import Answer
    from forkserve.serving.asgi.heartbeat import Keepalive
    from forkserve.serving.asgi.websocket_handshake import BadHandshake, WebSocketLimits
    from forkserve.serving.asgi.websocket_session import WebSocketSession

    bound = type(
        "BoundSession",
        (WebSocketSession,),
        {
            "serving": binding.context,
            "answering": binding.make("BoundAnswer", Answer),
            "limits": WebSocketLimits(options.ws_max_size, not options.no_ws_compression),
            "keepalive": Keepalive(options.ws_ping_interval, options.ws_ping_timeout),
        },
    )

    def make(conn: AsgiTransport, line: RequestLine, fields: Fields) -> Any:
        if fields.content_length or fields.chunked:
            raise Refusal(400, "a WebSocket handshake with a body")
        try:
            session = bound(conn, line, fields)
        except BadHandshake as error:
            # RFC 6455 section 4.4: a client of another version learns which one is spoken here.
            spoken = (("Sec-WebSocket-Version", "13"),)
            raise Refusal(error.status, "a bad WebSocket handshake", spoken) from error
        if binding.counter is not None:
            binding.counter.begin(session.answer)
        return session

    return make


def _refuse(conn: AsgiTransport, line: RequestLine, fields: Fields) -> Any:
    log.warning("WebSocket %r refused: websockets is not installed; try: pip install websockets", line.path)
    raise Refusal(501, "WebSocket is not served here")
