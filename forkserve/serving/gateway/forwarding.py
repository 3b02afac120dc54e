"""What trusted proxies say about the client, put where an application looks for it in its environ.

Rules: see `forkserve.serving.http.forwarded`. The fields themselves stay: an application may know better what its
proxies mean.
"""

from __future__ import annotations

from typing import Any

from forkserve.serving.http.forwarded import BELIEVED, ClientSides, ForwardedFields, Style, TrustedProxies

__all__ = ["VARIABLES", "WsgiForwarding"]

VARIABLES = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_FORWARDED",
)
"""The variables of proxies, in the order of `ForwardedFields`."""
PORTS = {"http": "80", "https": "443"}


class WsgiForwarding:
    """Which proxies are trusted, in which style they speak, and which of their fields are used."""

    def __init__(self, trusted: TrustedProxies, style: Style, believed: frozenset[str] = BELIEVED) -> None:
        self._sides = ClientSides(trusted, style, believed)

    def apply(self, environ: dict[str, Any], remote: tuple[str, str]) -> bool:
        """Correct the environ; False if there is nothing that a proxy could have said."""
        if environ.keys().isdisjoint(VARIABLES):
            return False
        fields = ForwardedFields(*map(environ.get, VARIABLES))
        side = self._sides.of(fields, remote[0] or None)
        if side.address is not None:
            environ["REMOTE_ADDR"] = side.address
            environ["REMOTE_PORT"] = "" if side.port is None else str(side.port)
        if side.scheme is not None:
            environ["wsgi.url_scheme"] = side.scheme
            environ["SERVER_PORT"] = PORTS[side.scheme]
        if side.host is not None:
            environ["HTTP_HOST"] = side.host
            environ["SERVER_NAME"] = side.name
        if side.host_port is not None:
            environ["SERVER_PORT"] = str(side.host_port)
        return True
