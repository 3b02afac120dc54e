"""The frames of most WebSocket traffic (RFC 6455 section 5.2): whole messages, neither fragmented nor compressed.

Pure functions over bytes; what is not simple is left to the library.
"""

from __future__ import annotations

import struct

from websockets import frames

__all__ = ["BINARY", "TEXT", "end_of", "frame_head", "simple_payload"]

TEXT, BINARY = 0x81, 0x82
"""First byte of a frame that is a whole message: FIN, no extension bits, the opcode."""
_MASKED = 0x80
# The compiled one where it was built, else the library's in Python.
_apply_mask = frames.apply_mask  # type: ignore[attr-defined]
_SHORT = [(bytes((TEXT, size)), bytes((BINARY, size))) for size in range(126)]
_two, _eight = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


def end_of(data: bytes, at: int) -> int:
    """Return where the frame that begins at `at` ends, possibly beyond `data`; 0 if its header is not whole yet.

    -1 if its length is encoded in more bytes than necessary, which is an error (RFC 6455 section 5.2).
    """
    room = len(data) - at
    if room < 2:
        return 0
    second = data[at + 1]
    size, head = second & 127, 6 if second & _MASKED else 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if room < 2 + width:
            return 0
        size = int.from_bytes(data[at + 2 : at + 2 + width], "big")
        if size < (126 if width == 2 else 65_536) or size >> 63:
            return -1
        head += width
    return at + head + size


def simple_payload(data: bytes, at: int, end: int) -> bytes | None:
    """Return the payload of the whole frame from `at` to `end`, unmasked; None if it is not a simple one."""
    first, second = data[at], data[at + 1]
    if (first != TEXT and first != BINARY) or not second & _MASKED:
        return None
    size = second & 127
    mask = at + (2 if size < 126 else 4 if size == 126 else 10)
    return bytes(_apply_mask(data[mask + 4 : end], data[mask : mask + 4]))


def frame_head(kind: int, size: int) -> bytes:
    """Return the header of an unmasked frame: `kind` is TEXT or BINARY."""
    if size < 126:
        return _SHORT[size][kind == BINARY]
    if size < 65_536:
        return _two(kind, 126, size)
    return _eight(kind, 127, size)
