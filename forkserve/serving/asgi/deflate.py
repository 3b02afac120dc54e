"""Compressed messages (RFC 7692), inflated on demand and no further than there is room.

A few bytes can inflate to a thousand times as many, so received bytes stay compressed until their message is whole, and
are inflated up to a limit. What does not fit waits compressed, until the application takes what is before it.
"""

from __future__ import annotations

import zlib
from typing import Final

from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.typing import ExtensionName

__all__ = ["Deferred", "Inflater"]

# What each sender cuts off the end of a message (RFC 7692 section 7.2.1).
_TAIL: Final = b"\x00\x00\xff\xff"
# What may follow a block with BFINAL: the tail alone, or the tail of an empty block (RFC 7692 section 7.2.3.4).
_AFTER_FINAL: Final = (_TAIL, b"\x00" + _TAIL)


class Deferred(Extension):
    """The library's extension, except for incoming data: it is passed on as it is, and `compressed` marks it.

    So the library checks the frames, and counts them by their size on the wire.
    """

    name = ExtensionName("permessage-deflate")

    def __init__(self, negotiated: PerMessageDeflate) -> None:
        self.encode = negotiated.encode  # type: ignore[method-assign]
        self.compressed = False

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Remove the compression bit from the first frame of a message; anywhere else it is a violation."""
        if frame.opcode in CTRL_OPCODES or frame.opcode is Opcode.CONT:
            return frame
        self.compressed = frame.rsv1
        return Frame(frame.opcode, frame.data, frame.fin, False, frame.rsv2, frame.rsv3)


class Inflater:
    """Inflates the messages of one connection, one after another, each in as many steps as it needs."""

    def __init__(self, negotiated: PerMessageDeflate) -> None:
        self._bits = negotiated.remote_max_window_bits
        self._forgets = negotiated.remote_no_context_takeover
        if not self._forgets:
            # The library's own has nothing to do, and would hold memory as long as the connection lasts.
            del negotiated.decoder
        self._decoder = zlib.decompressobj(wbits=-self._bits)
        self._left = b""
        self._blocks: list[bytes] = []
        self._size = 0

    @property
    def in_memory(self) -> int:
        """Bytes of a message that is not inflated to its end."""
        return sum(map(len, self._blocks), len(self._left))

    def forget(self) -> None:
        """Drop the current message."""
        self._left = b""
        self._blocks = []

    def begin(self, payload: bytes) -> None:
        """Take the whole payload of a message."""
        if self._forgets or self._decoder.eof:
            self._decoder = zlib.decompressobj(wbits=-self._bits)
        self._left = payload + _TAIL
        self._blocks = []
        self._size = 0

    def inflate(self, limit: int) -> bytes | None:
        """Return the message; None if it has more than `limit` bytes, and it may be requested again with a higher one.

        Raises zlib.error if it is damaged.
        """
        decoder = self._decoder
        if self._size <= limit:
            # One byte more than the limit tells those that fit from those that do not.
            block = decoder.decompress(self._left, limit + 1 - self._size)
            self._left = decoder.unconsumed_tail
            self._blocks.append(block)
            self._size += len(block)
        if self._size > limit:
            return None
        if decoder.eof and decoder.unused_data not in _AFTER_FINAL:
            raise zlib.error("data behind the last block")
        blocks, self._blocks = self._blocks, []
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)
