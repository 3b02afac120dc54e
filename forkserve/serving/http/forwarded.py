"""The client behind proxies: X-Forwarded-For, -Proto, -Host, -Port, or Forwarded (RFC 7239).

Rules. Nothing is used unless the peer is trusted. The chain is walked from the nearest hop outwards, and the first
address that is not a trusted proxy is the client; so anything that a client writes itself lies further out and is never
reached. Of the two styles only the configured one counts: a proxy that sets one passes the other through as the client
sent it. For the same reason only fields that the proxies are known to write are used: `for` and `proto` unless
configured otherwise, since few proxies set host and port. An unreadable hop ends the walk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from forkserve.serving.http.host import check_host
from forkserve.serving.http.refusal import Refusal

__all__ = [
    "BELIEVED",
    "ClientSide",
    "ClientSides",
    "ForwardedFields",
    "Style",
    "TrustedProxies",
    "client_side",
]

_SAYINGS = ("for", "proto", "host", "port")
"""The X-Forwarded-* that are understood, in the order of `ForwardedFields`; Forwarded has the first three."""
BELIEVED = frozenset({"for", "proto"})
"""What is used by default."""

Address = IPv4Address | IPv6Address
_PAIR = re.compile(r'[ \t]*(?:([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)=([^ \t";,]+|"(?:[^"\\]|\\.)*"))?[ \t]*([;,]|\Z)')
_ZONE = r"(?:%[0-9A-Za-z._~-]{1,32})?"  # RFC 4007 section 11, as link-local addresses are written
_NODE = re.compile(
    rf"(?:\[([0-9A-Fa-f:.]+{_ZONE})\]|([0-9.]+|[0-9A-Fa-f:]+:[0-9A-Fa-f:.]*{_ZONE}))(?::([0-9]{{1,5}}))?"
).fullmatch
_LONGEST_CHAIN = 64
_SIDES = 1024
_REMEMBERED = 256
"""Most characters of all fields together for which the result is cached."""
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Style(Enum):
    """Which fields the trusted proxies set."""

    X_FORWARDED = "x-forwarded"
    FORWARDED = "forwarded"


class ForwardedFields(NamedTuple):
    """The fields as received, repetitions joined by commas; None if missing."""

    x_for: str | None = None
    x_proto: str | None = None
    x_host: str | None = None
    x_port: str | None = None
    forwarded: str | None = None


@dataclass(frozen=True, slots=True)
class ClientSide:
    """The client as the outermost trusted proxy saw it; None means: as on the connection itself."""

    address: str | None = None
    port: int | None = None
    scheme: str | None = None
    host: str | None = None
    """As in a Host field, possibly with a port."""
    host_port: int | None = None

    @property
    def name(self) -> str | None:
        """The host without its port."""
        host, colon, port = (self.host or "").rpartition(":")
        return host if colon and "]" not in port else self.host


class TrustedProxies:
    """Addresses, networks in CIDR form, `unix` (any peer of a unix socket) or `*`; raises ValueError."""

    __slots__ = ("_all", "_known", "_networks", "_unix")

    def __init__(self, items: Iterable[str]) -> None:
        names = [item.strip() for item in items]
        self._all = "*" in names
        self._unix = self._all or "unix" in names
        self._networks: list[IPv4Network | IPv6Network] = []
        for name in names:
            if name not in ("*", "unix", ""):
                try:
                    self._networks.append(ip_network(name, strict=False))
                except ValueError:
                    raise ValueError(
                        f"expected an address, a network like 10.0.0.0/8, unix or *, got {name!r}"
                    ) from None
        self._known: dict[str, bool] = {}

    def trusts(self, address: str | None) -> bool:
        """Whether this peer may speak for others; None is a peer without an address (unix socket)."""
        if self._all:
            return True
        if address is None:
            return self._unix
        known = self._known.get(address)
        if known is None:
            known = self._holds(address)
            if len(self._known) < 1024:
                self._known[address] = known
        return known

    def _holds(self, text: str) -> bool:
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


class ClientSides:
    """A cache of client sides: clients repeat, and computing one takes ten times the look-up."""

    __slots__ = ("_believed", "_known", "_style", "_trusted")

    def __init__(self, trusted: TrustedProxies, style: Style, believed: frozenset[str] = BELIEVED) -> None:
        self._trusted = trusted
        self._style = style
        self._believed = believed
        self._known: dict[tuple[ForwardedFields, str | None], ClientSide] = {}

    def of(self, fields: ForwardedFields, peer: str | None) -> ClientSide:
        """Return the result of `client_side`."""
        key = fields, peer
        side = self._known.get(key)
        if side is None:
            side = client_side(fields, peer, self._trusted, self._style, self._believed)
            if sum(len(value) for value in fields if value) <= _REMEMBERED:
                if len(self._known) >= _SIDES:
                    self._known.clear()
                self._known[key] = side
        return side


def client_side(
    fields: ForwardedFields,
    peer: str | None,
    trusted: TrustedProxies,
    style: Style,
    believed: frozenset[str] = BELIEVED,
) -> ClientSide:
    """Return what the trusted proxies say about the client; never raises for what a client sends.

    `believed` are those of `_SAYINGS` that count. If `for` is not among them, only the nearest proxy counts.
    """
    if not trusted.trusts(peer):
        return ClientSide()
    if style is Style.FORWARDED:
        return _by_forwarded(fields.forwarded, trusted, believed)
    heard = (value if name in believed else None for name, value in zip(_SAYINGS, fields, strict=False))
    return _by_x_forwarded(ForwardedFields(*heard), trusted)


def _node(text: str) -> tuple[str, int | None] | None:
    """Parse an address, possibly with a port: `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]:80`; None for anything else."""
    match = _NODE(text.strip(" \t"))
    if match is None:
        return None
    try:
        address = str(ip_address(match[1] or match[2]))
    except ValueError:
        return None
    port = int(match[3]) if match[3] else None
    return address, port if port is None or port < 65536 else None


def _by_x_forwarded(fields: ForwardedFields, trusted: TrustedProxies) -> ClientSide:
    hops = 1
    side = ClientSide()
    chain = fields.x_for.split(",")[-_LONGEST_CHAIN:] if fields.x_for else []
    for text in reversed(chain):
        node = _node(text)
        if node is None:
            break
        side = ClientSide(address=node[0], port=node[1])
        if not trusted.trusts(node[0]):
            break
        hops += 1
    hops = min(hops, len(chain) or 1)
    host, host_port = _host(_nth(fields.x_host, hops))
    port = _nth(fields.x_port, hops)
    if port is not None and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536:
        host_port = int(port)
    return replace(side, scheme=_scheme(_nth(fields.x_proto, hops)), host=host, host_port=host_port)


def _nth(value: str | None, hops: int) -> str | None:
    """Return the entry of the proxy this many hops away; the outermost one if the list is shorter."""
    if value is None:
        return None
    entries = value.split(",")[-_LONGEST_CHAIN:]
    return entries[-min(hops, len(entries))].strip(" \t")


def _scheme(value: str | None) -> str | None:
    return _SCHEMES.get(value.lower()) if value else None


def _host(value: str | None) -> tuple[str | None, int | None]:
    try:
        text = check_host((value or "").encode("latin-1")).decode("latin-1")
    except (Refusal, UnicodeEncodeError):
        return None, None
    port = text.rpartition(":")[2] if not text.endswith("]") and ":" in text else ""
    return text, int(port) if port else None


def _by_forwarded(value: str | None, trusted: TrustedProxies, believed: frozenset[str]) -> ClientSide:
    side = ClientSide()
    for said in reversed(_elements(value or "")[-_LONGEST_CHAIN:]):
        element = {name: value for name, value in said.items() if name in believed}
        host, host_port = _host(element.get("host"))
        side = replace(
            side,
            scheme=_scheme(element.get("proto")) or side.scheme,
            host=host or side.host,
            host_port=host_port if host else side.host_port,
        )
        node = _node(element.get("for", ""))
        if node is None:
            break
        side = replace(side, address=node[0], port=node[1])
        if not trusted.trusts(node[0]):
            break
    return side


def _elements(value: str) -> list[dict[str, str]]:
    """Return the elements of a Forwarded field; none if any of it is malformed, since then no boundary is certain."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None:
            return []
        if match[1]:
            text = match[2]
            name = match[1].lower()
            if name in elements[-1]:
                return []
            elements[-1][name] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] == '"' else text
        if match[3] == ",":
            elements.append({})
        at = match.end()
    return [element for element in elements if element]
