"""What a hostile client says on one connection: bytes in pieces, and how it leaves.

Rules: a conversation is made of a seed and its number alone, so any one of a run can be repeated by itself. Every
request in it carries a token of its own; a token of another in what a client receives is a leak.
"""

from __future__ import annotations

import random
import re
import struct
from dataclasses import dataclass
from enum import Enum

from tests.fuzz.parsers import seeds
from tests.support.http_driving import sliced
from tests.support.http_mutation import mutate

__all__ = ["TOKEN", "Conversation", "Leave", "conversation"]

SHOWN = 400
"""Characters of a conversation in a report: seed and number make the whole again."""
TOKEN = re.compile(rb"tok[0-9]{10}en")
_SEEDS = [raw for raw in seeds() if len(raw) < 2000]
_PATHS = (b"/", b"/a?b=c", b"/k", b"/l", b"/s", b"/u", b"/%41", b"/k?\xc3")
_FIELDS = (
    b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"Cookie: a=b; c=d\r\n", b"Accept: */*\r\n",
    b"X-A: 1\r\nX-A: 2\r\n",
    b"X-Forwarded-For: 10.0.0.1\r\n", b"X-Forwarded-Proto: https\r\n", b"Forwarded: for=10.0.0.1\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n", b"Expect: 100-continue\r\n",
    b"User-Agent: " + 200 * b"m" + b"\r\n", b"Content-Type: text/plain\r\n", b"TE: trailers\r\n",
)  # fmt: skip
_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nX-Token: @\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
_OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


class Leave(Enum):
    """How a client leaves once it has said everything."""

    FINISHES = "says that it sends no more, and reads to the end"
    WAITS = "waits until the server closes"
    CLOSES = "closes at once"
    RESETS = "resets the connection"


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that one client does."""

    number: int
    token: bytes
    pieces: tuple[bytes, ...]
    leave: Leave
    reads: bool
    """Whether it reads before it has said everything."""

    def __str__(self) -> str:
        text = repr(list(self.pieces))
        return f"number {self.number}: {self.leave.name} after {text if len(text) < SHOWN else text[:SHOWN] + ' ...'}"


def conversation(seed: int, number: int, *, sockets: bool) -> Conversation:
    """Make one; `sockets` if WebSockets are understood."""
    chance = random.Random((seed << 32) + number)
    token = b"tok%010den" % (number % 10**10)
    if sockets and chance.random() < 0.3:
        raw = _websocket(chance)
    else:
        raw = b"".join(_request(chance) for _ in range(chance.choice((1, 1, 1, 2, 3, 20))))
    if chance.random() < 0.7:
        raw = mutate(raw, chance.choice(_SEEDS), chance)
    raw = raw.replace(b"X-Token: @", b"X-Token: " + token)
    return Conversation(number, token, _pieces(raw, chance), _leave(chance), chance.random() < 0.8)


def _leave(chance: random.Random) -> Leave:
    return chance.choices(list(Leave), (70, 8, 12, 10))[0]


def _pieces(raw: bytes, chance: random.Random) -> tuple[bytes, ...]:
    match chance.randint(0, 3):
        case 0:
            at = chance.randint(0, len(raw))
            return tuple(piece for piece in (raw[:at], raw[at:]) if piece)
        case 1:
            return tuple(sliced(raw[:4000], chance.randrange(2**32)))
        case _:
            return (raw,)


def _request(chance: random.Random) -> bytes:
    if chance.random() < 0.25:
        return chance.choice(_SEEDS)
    fields = b"".join(chance.sample(_FIELDS, chance.choice((0, 0, 1, 2, 5))))
    method, body = chance.choice((b"GET", b"GET", b"HEAD", b"OPTIONS")), b""
    if chance.random() < 0.5:
        method, (framing, body) = chance.choice((b"POST", b"PUT", b"DELETE")), _body(chance)
        fields += framing
    return b"%b %b HTTP/1.1\r\nHost: a\r\nX-Token: @\r\n%b\r\n%b" % (method, chance.choice(_PATHS), fields, body)


def _body(chance: random.Random) -> tuple[bytes, bytes]:
    body = chance.randbytes(chance.choice((0, 1, 5, 100, 3000, 70_000)))
    if chance.random() < 0.5:
        return b"Content-Length: %d\r\n" % len(body), body
    chunks, at = b"", 0
    while at < len(body):
        chunk = body[at : at + chance.choice((1, 16, 1000, 50_000))]
        chunks += b"%x%b\r\n%b\r\n" % (len(chunk), chance.choice((b"", b"", b";a=b")), chunk)
        at += len(chunk)
    return b"Transfer-Encoding: chunked\r\n", chunks + b"0\r\n" + chance.choice((b"", b"", b"X-Sum: 1\r\n")) + b"\r\n"


def _websocket(chance: random.Random) -> bytes:
    frames = b"".join(_frame(chance) for _ in range(chance.randint(0, 8)))
    handshake = _HANDSHAKE % chance.choice((b"", _OFFER, b"Sec-WebSocket-Protocol: a, b\r\n"))
    if chance.random() < 0.3:
        frames = mutate(frames, chance.randbytes(20), chance)
    return handshake + frames


def _frame(chance: random.Random) -> bytes:
    """A frame as RFC 6455 section 5.2 has it, with anything in it."""
    opcode = chance.choice((0x1, 0x1, 0x2, 0x0, 0x8, 0x9, 0xA, chance.randrange(16)))
    data = chance.choice((b"hello", "grüß".encode(), b"", chance.randbytes(chance.choice((1, 125, 126, 70_000)))))
    if opcode == 0x8 and chance.random() < 0.7:
        data = struct.pack(">H", chance.choice((1000, 1001, 999, 1005, 5000))) + data[:100]
    first = opcode | chance.choice((0x80, 0x80, 0x80, 0, 0xC0, 0xF0))
    size, claimed = len(data), len(data) if chance.random() < 0.9 else chance.choice((0, 1 << 20, (1 << 63) - 1))
    masked = 0x80 if chance.random() < 0.95 else 0
    if chance.random() < 0.05 or claimed > 0xFFFF:
        head = struct.pack(">BBQ", first, masked | 127, claimed)
    elif size > 125:
        head = struct.pack(">BBH", first, masked | 126, claimed)
    else:
        head = struct.pack(">BB", first, masked | claimed & 0x7F)
    mask = chance.randbytes(4)
    if not masked:
        return head + data
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
