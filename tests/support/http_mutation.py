"""Makes hostile inputs out of the corpus: pieces of requests cut, doubled, swapped and spoilt."""

from __future__ import annotations

import random

__all__ = ["TOKENS", "mutate"]

TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0\r\n\r\n",
    b"5\r\nhello\r\n", b";a=b", b';a="', b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: +5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:chunked \r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer_Encoding: chunked\r\n", b"Host: a\r\n", b"Host: b\r\n", b"Host:\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n", b"Expect: 100-continue\r\n", b" folded\r\n", b"X: y\r\n", b"x-y_z: v\r\n",
    b"GET / HTTP/1.1\r\n", b"POST /p HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9",
    b"GET ", b"HEAD ", b"CONNECT a:1 ", b"OPTIONS * ", b"http://h/", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"%00",
)  # fmt: skip


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A few random changes; `other` is a second input to splice with."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
        match chance.randint(0, 6):
            case 0:
                data = data[:at] + chance.choice(TOKENS) + data[at:]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:at] + chance.choice(TOKENS) + data[end:]
            case 3:
                data = data[:at] + data[at:end] * 2 + data[end:]
            case 4:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 5:
                data = data[:at] + other[chance.randint(0, len(other)) :]
            case 6:
                data = data[:at] + chance.choice(TOKENS) * chance.choice((2, 3, 120)) + data[at:]
    return data[:20_000]
