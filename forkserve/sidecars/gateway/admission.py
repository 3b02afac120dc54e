"""Which requests may pass: those with the token, for one of our names, and not from a page of another site.

A browser sends requests for any page. So the Host must be one of ours (against DNS rebinding), and an Origin, if there
is one, must be the same (RFC 6454 section 7.2); the token is compared in constant time.

Rules: pure.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus

__all__ = ["Admission", "Rejection"]

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request does not pass."""

    status: HTTPStatus
    text: str


@dataclass(frozen=True, slots=True)
class Admission:
    """The rule of one gateway: `hosts` are the names, with port, by which clients may call it."""

    token: bytes
    hosts: frozenset[str]
    scheme: str

    @classmethod
    def of(cls, token: bytes, address: str, names: Collection[str], *, tls: bool) -> Admission:
        """Return the rule for a gateway at `HOST:PORT`, which also has the names `names`."""
        host, _, port = address.rpartition(":")
        hosts = {f"{each.lower()}:{port}" for each in (host, *_LOCAL, *names)}
        return cls(token, frozenset(hosts), "https" if tls else "http")

    def judge(self, headers: Mapping[str, str]) -> Rejection | None:
        """Return why a request with these headers, by lower-case name, is refused; None if it passes."""
        host = headers.get("host", "").lower()
        if host not in self.hosts:
            return Rejection(HTTPStatus.MISDIRECTED_REQUEST, f"this forkserve is not called {host[:100]!r}")
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{self.scheme}://{host}":
            return Rejection(HTTPStatus.FORBIDDEN, "pages of other sites may not use this")
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token):
            return Rejection(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        return None
