"""The chunked transfer coding of responses (RFC 9112 section 7.1); requests are decoded in `body`."""

from __future__ import annotations

__all__ = ["encode_chunk"]


def encode_chunk(block: bytes) -> bytes:
    """One chunk; nothing for an empty block, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(block), block) if block else b""
