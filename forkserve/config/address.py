"""Where a socket listens, as people write it: `HOST:PORT`, `[::]:PORT`, `:PORT`, `PORT`, `unix:PATH`, `unix:@NAME`,
`fd://N`.

Rules: pure; nothing is resolved or opened. An empty host means every IPv4 address, as in Gunicorn and nginx; a host
with a colon, or in brackets, is IPv6. A leading `@` marks Linux's abstract name space (unix(7)), also in `path`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Address", "parse_address"]

EXPECTED = "expected HOST:PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH, unix:@NAME or fd://N"
ANY_IPV4 = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen: a TCP or UDP host and port, a unix path (`@x` is abstract), or an inherited descriptor."""

    host: str = ""
    port: int = 0
    path: str | None = None
    fd: int | None = None

    @property
    def ipv6(self) -> bool:
        """True when the host is written as an IPv6 address."""
        return ":" in self.host

    def __str__(self) -> str:
        if self.fd is not None:
            return f"fd://{self.fd}"
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if self.ipv6 else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse an address as the user wrote it; raises ValueError that names the accepted forms."""
    text = text.strip()
    if text.startswith("fd://"):
        return Address(fd=_descriptor(text))
    if text.startswith("unix:"):
        return Address(path=_path(text))
    text = text.removeprefix("tcp://").removeprefix("http://").rstrip("/")
    if text.isdecimal():
        return Address(host=ANY_IPV4, port=_port(text))
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.%\w]*)\]:(\d+)", text)
    if bracketed:
        return Address(host=bracketed[1] or "::", port=_port(bracketed[2]))
    host, colon, port = text.rpartition(":")
    if ":" in host:
        raise ValueError(f"an IPv6 address goes into brackets, as in [{host.strip('[]')}]:{port}; got {text!r}")
    if not colon or not port.isdecimal() or any(letter.isspace() for letter in host):
        raise ValueError(f"{EXPECTED}; got {text!r}")
    return Address(host=ANY_IPV4 if host in ("", "*") else host, port=_port(port))


def _port(text: str) -> int:
    if int(text) > 65535:
        raise ValueError(f"a port is at most 65535, got {text}")
    return int(text)


def _descriptor(text: str) -> int:
    number = text.removeprefix("fd://")
    if not number.isdecimal():
        raise ValueError(f"expected fd://N with the number of an open descriptor, got {text!r}")
    return int(number)


def _path(text: str) -> str:
    path = text.removeprefix("unix:")
    if path.startswith("//"):
        path = path[2:]
    if path in ("", "@"):
        raise ValueError(f"expected unix:PATH or unix:@NAME, got {text!r}")
    # sun_path of unix(7) holds 108 bytes, one of them the final NUL
    if len(path.encode()) > 107:
        raise ValueError(f"a unix socket's path is at most 107 bytes, got {len(path.encode())}")
    return path
