"""PROXY protocol headers, versions 1 and 2."""

from __future__ import annotations

import pytest

from forkserve.serving.http.proxyprotocol import ProxyHeader, read_proxy_header
from forkserve.serving.http.refusal import Refusal

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_IPV4 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([1, 2, 3, 4, 5, 6, 7, 8]) + b"\x1f\x90\x00\x50"
V2_IPV6 = SIGNATURE + b"\x21\x21\x00\x24" + bytes(15) + b"\x01" + bytes(15) + b"\x02" + b"\x1f\x90\x00\x50"

GOOD = [
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 8080 80\r\n", ("1.2.3.4", 8080), ("5.6.7.8", 80)),
    (b"PROXY TCP6 ::1 ::2 8080 80\r\n", ("::1", 8080), ("::2", 80)),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None, None),
    (V2_IPV4, ("1.2.3.4", 8080), ("5.6.7.8", 80)),
    (V2_IPV6, ("::1", 8080), ("::2", 80)),
    (SIGNATURE + b"\x20\x00\x00\x00", None, None),
    (SIGNATURE + b"\x21\x00\x00\x03\x04\x00\x00", None, None),
    (SIGNATURE + b"\x21\x11\x00\x0f" + V2_IPV4[16:] + b"\x04\x00\x00", ("1.2.3.4", 8080), ("5.6.7.8", 80)),
]


@pytest.mark.parametrize(("data", "source", "destination"), GOOD)
def test_header_is_read_and_what_follows_is_left(
    data: bytes, source: tuple[str, int] | None, destination: tuple[str, int] | None
) -> None:
    assert read_proxy_header(data + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(data), source, destination)


@pytest.mark.parametrize("data", [good[0] for good in GOOD])
def test_every_beginning_asks_for_more(data: bytes) -> None:
    for size in range(len(data)):
        assert read_proxy_header(data[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXX",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 8080 80\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 8080\r\n",
        b"PROXY TCP4 ::1 ::2 8080 80\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 8080 80\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 80800 80\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 80\r\n",
        b"PROXY TCP4 01.2.3.4 5.6.7.8 1 80\r\n",
        b"PROXY TCP5 1.2.3.4 5.6.7.8 1 80\r\n",
        b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 80\r\n",
        b"PROXY UNKNOWN " + b"x" * 100,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\r",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal, match="PROXY"):
        read_proxy_header(data)
