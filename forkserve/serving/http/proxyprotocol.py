"""The PROXY protocol, versions 1 and 2: what HAProxy and others send before the first byte of a connection.

Source: `proxy-protocol.txt` of HAProxy, sections 2.1 and 2.2. Only for listeners that are configured for it, and then
it is required: without the header a client could forge one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from forkserve.serving.http.refusal import Refusal

__all__ = ["ProxyHeader", "read_proxy_header"]

_V1 = re.compile(
    rb"PROXY (?:UNKNOWN[ -~]*|TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
).fullmatch
_V1_LONGEST = 107
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_LONGEST = 4096
"""Bytes of addresses and all TLVs; the format allows longer TLVs, but none in use is."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`size` bytes to skip; source and destination as (address, port), None if the proxy speaks for itself."""

    size: int
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header at the start of the bytes so far; None if more are needed. Raises Refusal 400."""
    if _V2_SIGNATURE.startswith(data[:12]):
        return _read_v2(data) if len(data) >= 16 else None
    if not b"PROXY ".startswith(data[:6]):
        raise Refusal(400, "no PROXY header")
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise Refusal(400, "an invalid PROXY header")
        return None
    return _read_v1(data[: end + 2])


def _read_v1(line: bytes) -> ProxyHeader:
    match = _V1(line)
    if match is None:
        raise Refusal(400, "an invalid PROXY header")
    if match[1] is None:
        return ProxyHeader(len(line))
    kind = IPv4Address if match[1] == b"4" else IPv6Address
    try:
        source, destination = (str(kind(match[group].decode("ascii"))) for group in (2, 3))
    except ValueError:
        raise Refusal(400, "an invalid PROXY header") from None
    ports = int(match[4]), int(match[5])
    if max(ports) > 65535:
        raise Refusal(400, "an invalid PROXY header")
    return ProxyHeader(len(line), (source, ports[0]), (destination, ports[1]))


def _read_v2(data: bytes) -> ProxyHeader | None:
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21) or length > _V2_LONGEST:
        raise Refusal(400, "an invalid PROXY header")
    size = 16 + length
    if len(data) < size:
        return None
    if command == 0x20:
        return ProxyHeader(size)
    payload = data[16:size]
    if family == 0x11 and length >= 12:
        source, destination = (str(IPv4Address(payload[at : at + 4])) for at in (0, 4))
        ports = payload[8:12]
    elif family == 0x21 and length >= 36:
        source, destination = (str(IPv6Address(payload[at : at + 16])) for at in (0, 16))
        ports = payload[32:36]
    elif family in (0x00, 0x31):
        return ProxyHeader(size)
    else:
        raise Refusal(400, "an invalid PROXY header")
    source_port, destination_port = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
    return ProxyHeader(size, (source, source_port), (destination, destination_port))
