"""What trusted proxies say about the client, put where an application looks for it in its scope.

Rules: see `forkserve.serving.http.forwarded`. The fields themselves stay: an application may know better what its
proxies mean.
"""

from __future__ import annotations

from typing import Any

from forkserve.serving.http.forwarded import BELIEVED, ClientSides, ForwardedFields, Style, TrustedProxies

__all__ = ["AsgiForwarding", "forwarded_fields"]

PORTS = {"http": 80, "https": 443}
NAMES = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded")
_NAMES = frozenset(NAMES)


def forwarded_fields(headers: list[tuple[bytes, bytes]]) -> ForwardedFields | None:
    """Return what proxies may have written into a request's headers; None if that is nothing."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _NAMES:
            text = value.decode("latin-1")
            found[name] = f"{found[name]},{text}" if name in found else text
    return ForwardedFields(*map(found.get, NAMES)) if found else None


class AsgiForwarding:
    """Which proxies are trusted, in which style they speak, and which of their fields are used."""

    __slots__ = ("_sides",)

    def __init__(self, trusted: TrustedProxies, style: Style, believed: frozenset[str] = BELIEVED) -> None:
        self._sides = ClientSides(trusted, style, believed)

    def apply(self, scope: dict[str, Any], fields: ForwardedFields, peer: str | None) -> None:
        """Correct the scope; `peer` is the address of the connection's peer, None for a unix socket."""
        side = self._sides.of(fields, peer)
        if side.address is not None:
            scope["client"] = (side.address, side.port or 0)
        host, port = scope["server"]
        if side.scheme is not None:
            scope["scheme"] = side.scheme
        if side.scheme is not None or port is None:
            port = PORTS[scope["scheme"]]
        if side.host is not None:
            host = side.name
            encoded = side.host.encode("latin-1")
            scope["headers"] = [(name, encoded if name == b"host" else value) for name, value in scope["headers"]]
        elif scope["server"][1] is None:
            return  # the path of a unix socket, which has no port
        scope["server"] = (host, side.host_port or port)
