"""However frames are cut on their way, and whichever of them take the short way, the messages are the same."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from forkserve.serving.asgi.frames import BINARY, TEXT, end_of, frame_head
from forkserve.serving.asgi.websocket_handshake import Handshake, WebSocketLimits
from forkserve.serving.asgi.websocket_protocol import WebSocketProtocol

MASK = b"\x11\x22\x33\x44"
SIZES = st.sampled_from([0, 1, 125, 126, 127, 4000, 65_535, 65_536, 70_000])


def masked(opcode: int, data: bytes, fin: bool = True) -> bytes:
    size = len(data)
    first = bytes([opcode | 0x80 * fin])
    if size < 126:
        head = first + bytes([0x80 | size])
    elif size < 65_536:
        head = first + b"\xfe" + struct.pack("!H", size)
    else:
        head = first + b"\xff" + struct.pack("!Q", size)
    mask = MASK * (size // 4 + 1)
    value = int.from_bytes(data, "big") ^ int.from_bytes(mask[:size], "big")
    return head + MASK + value.to_bytes(size, "big")


@st.composite
def traffic(draw: st.DrawFn) -> tuple[bytes, list[str | bytes]]:
    wire, messages = b"", []
    for _ in range(draw(st.integers(1, 6))):
        size = draw(SIZES)
        match draw(st.sampled_from(["text", "bytes", "fragments", "ping"])):
            case "text":
                messages.append("é" * (size // 2))
                wire += masked(1, messages[-1].encode())
            case "bytes":
                messages.append(bytes(index & 255 for index in range(size)))
                wire += masked(2, messages[-1])
            case "fragments":
                messages.append(b"y" * size)
                wire += masked(2, b"y" * (size // 2), fin=False) + masked(9, b"") + masked(0, b"y" * (size - size // 2))
            case _:
                wire += masked(9, b"p" * min(size, 125))
    return wire, messages


@given(traffic(), st.data())
def test_messages_do_not_depend_on_how_their_bytes_arrive(
    sent: tuple[bytes, list[str | bytes]], data: st.DataObject
) -> None:
    wire, messages = sent
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    socket = WebSocketProtocol(Handshake("", None, [], ()), WebSocketLimits())
    got: list[str | bytes] = []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        if begin < end:
            for message in socket.receive(wire[begin:end]):
                assert message["type"] == "websocket.receive"
                got.append(message["text"] if "text" in message else message["bytes"])

    assert got == messages


@given(st.sampled_from([TEXT, BINARY]), st.integers(0, 1 << 40))
def test_a_head_made_here_is_read_here(kind: int, size: int) -> None:
    head = frame_head(kind, size)

    assert head[0] == kind
    assert end_of(head, 0) == len(head) + size
    assert all(end_of(head[:part], 0) == 0 for part in range(len(head)))
