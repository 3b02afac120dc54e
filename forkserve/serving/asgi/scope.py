"""The scope of a request: what ASGI 3 says about it, from the results of the driver and the HTTP core.

Rules: an application may write to its scope, so each gets its own, with its own headers, state and extensions. The rest
is the same for each request with the same line and fields, and is created once for those that repeat.
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import quote

from forkserve.serving.asgi.context import AsgiTransport
from forkserve.serving.asgi.forwarding import AsgiForwarding, forwarded_fields
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine

__all__ = ["FORWARDED", "MODERN", "ScopeTemplate", "correct", "http_scope", "websocket_scope"]

UNESCAPED = "/!$&'()*+,;=:@~"
"""Characters that stand for themselves in a path besides letters, digits and -._ (RFC 3986 section 3.3)."""
MEMO = 8
"""Request lines for which the scope of shared header fields is cached."""
_EXTENSIONS: dict[str, dict[str, Any]] = {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
MODERN: dict[str, dict[str, Any]] = _EXTENSIONS | {"http.response.trailers": {}, "http.response.early_hint": {}}
FORWARDED: dict[RequestLine, dict[str, Any]] = {}
"""The memo of fields written by a proxy: always empty."""
_WEBSOCKET: dict[str, dict[str, Any]] = {"websocket.http.response": {}}


class ScopeTemplate:
    """What every request of one listener has in common; `server` is None if its address says nothing."""

    __slots__ = ("base", "forwarding", "raw_root", "root")

    def __init__(
        self, listener: socket.socket, *, root_path: str, tls: bool = False, forwarding: AsgiForwarding | None = None
    ) -> None:
        name = listener.getsockname()
        unix = listener.family == socket.AF_UNIX
        self.root = root_path.rstrip("/")
        self.raw_root = quote(self.root, safe=UNESCAPED, errors="surrogateescape").encode()
        self.forwarding = forwarding
        wildcard = not unix and name[0] in ("0.0.0.0", "::")
        server = (_text(name), None) if unix else tuple(name[:2])
        self.base: dict[str, Any] = {
            "type": "http",
            # send() raises OSError once the client has gone, which is 2.4. Yet Starlette takes 2.4 for the only way in
            # which it is told: a stream that waits for something else than the client would never end.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": None if wildcard else server,
            "client": None,
            "scheme": "https" if tls else "http",
            "root_path": self.root,
        }


def http_scope(conn: AsgiTransport, line: RequestLine, fields: Fields, state: dict[str, Any]) -> dict[str, Any]:
    """Return a scope of type `http` for the application to own."""
    memo = fields.memo
    base: dict[str, Any] | None = memo.get(line) if memo else None
    if base is None:
        base = _base(conn.listening.environ, line, fields)
    scope = base.copy()
    ends = conn.ends
    if ends is None:
        ends = conn.ends = _ends(conn, several=scope["server"] is None)
    scope["client"] = ends[0]
    if scope["server"] is None:
        scope["server"] = ends[1]
    scope["headers"] = base["headers"].copy()
    scope["extensions"] = base["extensions"].copy()
    scope["state"] = state.copy()
    if fields.memo is FORWARDED:
        correct(scope, conn)
    return scope


def correct(scope: dict[str, Any], conn: AsgiTransport) -> None:
    """Put what proxies say about the client where an application looks for it."""
    forwarded = forwarded_fields(scope["headers"])
    if forwarded is not None:
        conn.listening.environ.forwarding.apply(scope, forwarded, conn.remote[0] or None)


def _ends(conn: AsgiTransport, *, several: bool) -> tuple[Any, Any]:
    """Return the addresses of client and server; the server's only if its listener has several."""
    host, port = conn.remote
    return ((host, int(port)) if port else None), (conn.sock.getsockname()[:2] if several else None)


def websocket_scope(
    conn: AsgiTransport, line: RequestLine, fields: Fields, state: dict[str, Any], subprotocols: tuple[str, ...]
) -> dict[str, Any]:
    """Return a scope of type `websocket`."""
    scope = http_scope(conn, line, fields, state)
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = list(subprotocols)
    scope["extensions"] = _WEBSOCKET.copy()
    return scope


def _base(template: ScopeTemplate, line: RequestLine, fields: Fields) -> dict[str, Any]:
    path, raw_path, root = line.text_path, line.raw_path, template.root
    if root and path[:1] == "/" and not (path == root or path.startswith(root + "/")):
        # The proxy has cut the root path off; in ASGI the path is the whole one (spec 2.3, as frameworks expect). The
        # target of `OPTIONS *` is the server, and no path.
        path, raw_path = root + path, template.raw_root + raw_path
    base = template.base | {
        "http_version": line.version,
        "method": line.method,
        "path": path,
        "raw_path": raw_path,
        "query_string": line.query,
        "headers": fields.headers,
        "extensions": MODERN if line.modern else _EXTENSIONS,
    }
    if fields.memo is None:
        # What proxies say may depend on the connection, and their fields hardly ever come again.
        forwarded = template.forwarding is not None and forwarded_fields(fields.headers) is not None
        fields.memo = FORWARDED if forwarded else {}
    elif line.again and fields.memo is not FORWARDED and len(fields.memo) < MEMO:
        fields.memo[line] = base
    return base


def _text(name: str | bytes) -> str:
    # An abstract address is bytes that begin with NUL; ss(8) and systemd write @.
    return name if isinstance(name, str) else "@" + name[1:].decode("utf-8", "replace")
