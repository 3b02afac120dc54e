"""Our end of a WebSocket against the library's own client end, joined without a network."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, State
from websockets.uri import parse_uri

from forkserve.serving.asgi.websocket_handshake import BadHandshake, Handshake, WebSocketLimits
from forkserve.serving.asgi.websocket_protocol import AT_ONCE, WebSocketProtocol

LIMITS = WebSocketLimits(max_size=1000)


def joined(limits: WebSocketLimits = LIMITS, *, compress: bool = False) -> tuple[ClientProtocol, WebSocketProtocol]:
    client = ClientProtocol(parse_uri("ws://localhost/chat"))
    if compress:
        client.available_extensions = [ClientPerMessageDeflateFactory()]
    request = client.connect()
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()]
    handshake = Handshake.check(headers, "/chat", limits)
    client.send_request(request)
    client.data_to_send()
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in handshake.answer(None))
    client.receive_data(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n")
    client.events_received()

    assert client.state is OPEN
    return client, WebSocketProtocol(handshake, limits)


def to_server(client: ClientProtocol, server: WebSocketProtocol) -> list[dict[str, object]]:
    return [message for data in client.data_to_send() for message in server.receive(data)]


def to_client(server: WebSocketProtocol, client: ClientProtocol) -> list[Frame]:
    client.receive_data(server.take())
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("compress", [False, True])
def test_text_and_bytes_travel_both_ways(compress: bool) -> None:
    client, server = joined(compress=compress)
    client.send_text("grüße".encode())
    client.send_binary(b"\x00\xff")

    assert to_server(client, server) == [
        {"type": "websocket.receive", "text": "grüße"},
        {"type": "websocket.receive", "bytes": b"\x00\xff"},
    ]

    server.send({"type": "websocket.send", "text": "hello"})
    server.send({"type": "websocket.send", "bytes": b"raw", "text": None})

    assert [(frame.opcode, bytes(frame.data)) for frame in to_client(server, client)] == [
        (Opcode.TEXT, b"hello"),
        (Opcode.BINARY, b"raw"),
    ]


@pytest.mark.parametrize("compress", [False, True])
def test_a_close_between_fragments_is_answered_as_any_other(compress: bool) -> None:
    client, server = joined(compress=compress)
    client.send_text(b"never whole", fin=False)
    assert to_server(client, server) == []

    close = Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=True)

    assert server.receive(close[:3]) == []
    assert server.receive(close[3:]) == [{"type": "websocket.disconnect", "code": 1000, "reason": "bye"}]
    assert server.take() == b"\x88\x05\x03\xe8bye"
    assert server.finished


def test_fragments_become_one_message_and_a_ping_between_them_is_answered() -> None:
    client, server = joined()
    client.send_text(b"one ", fin=False)
    client.send_ping(b"now")
    client.send_continuation(b"two", fin=True)

    assert to_server(client, server) == [{"type": "websocket.receive", "text": "one two"}]
    assert [frame.opcode for frame in to_client(server, client)] == [Opcode.PONG]


def test_a_message_over_the_limit_ends_with_1009() -> None:
    client, server = joined()
    client.send_binary(b"x" * 1001)

    (message,) = to_server(client, server)

    assert message["type"] == "websocket.disconnect"
    assert message["code"] == 1009
    assert server.finished


def test_a_small_compressed_message_that_inflates_over_the_limit_ends_with_1009() -> None:
    client, server = joined(compress=True)
    client.send_binary(b"x" * 100_000)

    assert [message["code"] for message in to_server(client, server)] == [1009]


def compressed(data: bytes, *, fin: bool = True, opcode: int = 2) -> bytes:
    """Return a masked frame that carries this, deflated by hand."""
    deflate = zlib.compressobj(9, wbits=-12)
    packed = (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return framed(packed, fin=fin, opcode=opcode | 0x40)


def framed(payload: bytes, *, fin: bool = True, opcode: int = 2) -> bytes:
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([opcode | 0x80 * fin]) + size + b"\0\0\0\0" + payload


def sizes(messages: list[dict[str, object]]) -> list[int]:
    return [len(message["bytes"]) for message in messages]  # type: ignore[arg-type]


def test_no_more_is_inflated_than_there_is_room_for() -> None:
    _, server = joined(WebSocketLimits(max_size=16 << 20), compress=True)
    bomb = compressed(bytes(15 << 20))

    assert sizes(server.receive(bomb * 4, 32, 1 << 20)) == []
    assert server.behind
    assert 1 << 20 < server.in_memory < (1 << 20) + 4 * len(bomb)
    assert server.receive(b"\x89\x80\0\0\0\0", 32, 1 << 20) == []
    for _ in range(4):
        assert server.behind
        assert not server.has_output
        assert sizes(server.resume(32, 1 << 20)) == [15 << 20]
    assert not server.behind
    assert server.take() == b"\x8a\x00"
    assert server.in_memory == 0


def test_no_more_messages_are_made_than_there_is_room_for() -> None:
    _, server = joined(compress=True)
    wire = b"".join(framed(b"", opcode=2) if index % 2 else compressed(b"") for index in range(100))

    assert sizes(server.receive(wire, 32)) == [0] * 32
    assert sizes(server.resume(60, 1)) == [0] * 60
    assert server.behind
    assert sizes(server.resume(60, 1)) == [0] * 8
    assert not server.behind


def test_a_message_that_is_not_whole_stays_as_it_came() -> None:
    _, server = joined(WebSocketLimits(max_size=16 << 20), compress=True)
    data = random.Random(1).randbytes(500) + bytes(10_000_000)
    deflate = zlib.compressobj(9, wbits=-12)
    packed = (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    first, last = framed(packed[:9000], fin=False, opcode=0x42), framed(packed[9000:], opcode=0)

    assert server.receive(first[:5000], 32, 1 << 20) == []
    assert 4900 < server.in_memory < 5100
    assert server.receive(first[5000:], 32, 1 << 20) == []
    assert server.in_memory == 9000
    assert not server.behind
    assert server.receive(last, 32, 1 << 20) == []
    assert server.behind
    assert server.resume(32, 1 << 20) == [{"type": "websocket.receive", "bytes": data}]


@pytest.mark.parametrize("cut", [0, 1, 7, 8])
def test_a_close_waits_for_the_message_before_it(cut: int) -> None:
    _, server = joined(WebSocketLimits(max_size=10_000), compress=True)
    ping, close = framed(b"", opcode=9), framed(b"\x03\xe8", opcode=8)

    for data in (compressed(bytes(9000)) + ping + close[:cut], close[cut:]):
        # No bytes would be the end of the connection.
        assert not data or server.receive(data, 32, 5000) == []
    assert server.take() == b"\x8a\x00"
    assert server.behind
    assert server.is_open
    message, end = server.resume(32, 5000)
    assert message == {"type": "websocket.receive", "bytes": bytes(9000)}
    assert (end["type"], end["code"]) == ("websocket.disconnect", 1000)
    assert server.take() == b"\x88\x02\x03\xe8"
    assert not server.behind


def test_what_waits_is_judged_when_it_is_wanted() -> None:
    for behind, code in ((compressed(bytes(20_000)), 1009), (framed(b"\xff\xff\xff", opcode=0x42), 1002)):
        _, server = joined(WebSocketLimits(max_size=10_000), compress=True)

        assert sizes(server.receive(compressed(bytes(9000)) + behind, 32, 5000)) == []
        assert sizes(server.resume(32, 5000)) == [9000]
        assert [message["code"] for message in server.resume(32, 5000)] == [code]
        assert server.finished
        assert not server.behind


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_a_compressed_message_may_be_ended_by_its_last_block(end: bytes) -> None:
    """RFC 7692 section 7.2.3.4: a sender that cannot flush ends its stream, and appends an empty block."""
    _, server = joined(WebSocketLimits(), compress=True)
    for text in (b"one", b"two"):
        deflate = zlib.compressobj(wbits=-12)
        ended = deflate.compress(text) + deflate.flush()
        assert server.receive(framed(ended + end, opcode=0x41)) == [
            {"type": "websocket.receive", "text": text.decode()}
        ]


def test_data_behind_the_end_of_a_compressed_message_is_a_violation() -> None:
    _, server = joined(WebSocketLimits(), compress=True)
    deflate = zlib.compressobj(wbits=-12)
    ended = deflate.compress(b"x") + deflate.flush()

    assert [message["code"] for message in server.receive(framed(ended + b"more", opcode=0x42))] == [1002]


@pytest.mark.parametrize("frame", [framed(b"x", opcode=0x49), framed(b"x", fin=False) + framed(b"x", opcode=0x40)])
def test_only_the_first_frame_of_a_message_says_that_it_is_compressed(frame: bytes) -> None:
    _, server = joined(compress=True)

    assert [message["code"] for message in server.receive(frame)] == [1002]


@pytest.mark.parametrize("opcode", [1, 2, 0, 9, 8])
@pytest.mark.parametrize(
    "length", [b"\xfe\0\x05", b"\xfe\0\x7d", b"\xff" + bytes(7) + b"\x05", b"\xff" + (65_535).to_bytes(8, "big")]
)
def test_a_length_in_more_bytes_than_it_needs_is_a_violation(opcode: int, length: bytes) -> None:
    """RFC 6455 section 5.2: the minimal number of bytes must be used to encode the length."""
    for cut in (0, 1, 2, len(length)):
        _, server = joined(WebSocketLimits())
        head = bytes([0x80 | opcode]) + length
        messages = [*(server.receive(head[:cut]) if cut else []), *server.receive(head[cut:] + bytes(9))]

        assert [message["code"] for message in messages] == [1002]
        assert server.finished


def test_text_that_is_not_utf8_ends_with_1007() -> None:
    client, server = joined()
    client.send_text(b"\xff\xfe")

    assert [message["code"] for message in to_server(client, server)] == [1007]


def test_the_clients_close_is_told_once_and_answered() -> None:
    client, server = joined()
    client.send_close(4001, "bye")

    assert to_server(client, server) == [{"type": "websocket.disconnect", "code": 4001, "reason": "bye"}]
    assert server.lost() == []

    to_client(server, client)

    assert client.state is not State.OPEN
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == 4001


def test_a_lost_connection_is_1006() -> None:
    _client, server = joined()

    assert server.lost() == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    assert server.lost() == []


def test_close_with_a_code_that_never_travels_becomes_1000() -> None:
    client, server = joined()
    server.close(1006, "x" * 500)
    to_client(server, client)

    assert client.close_rcvd is not None
    assert client.close_rcvd.code == 1000


def test_an_unanswered_ping_is_noticed_at_the_next() -> None:
    client, server = joined()

    assert server.ping() is True
    assert server.ping() is False

    to_client(server, client)
    to_server(client, server)

    assert server.ping() is True


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"sec-websocket-version", b"12"), 400),
        ((b"sec-websocket-key", b"short"), 400),
        ((b"sec-websocket-key", None), 400),
        ((b"upgrade", b"h2c"), 426),
        ((b"connection", b"keep-alive"), 426),
    ],
)
def test_a_bad_handshake_is_refused(change: tuple[bytes, bytes | None], status: int) -> None:
    headers = {
        b"host": b"localhost",
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
        b"sec-websocket-version": b"13",
    }
    name, value = change
    if value is None:
        del headers[name]
    else:
        headers[name] = value

    with pytest.raises(BadHandshake) as refused:
        Handshake.check(headers.items(), "/", LIMITS)

    assert refused.value.status == status


def test_a_non_ascii_subprotocol_offer_does_no_harm() -> None:
    """CVE-2026-42544: such an offer aborted a peer's worker."""
    headers = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"caf\xe9"),
    ]
    with pytest.raises(BadHandshake):
        Handshake.check(headers, "/", LIMITS)


def test_only_an_offered_subprotocol_may_be_chosen() -> None:
    handshake = Handshake("accept", None, [], ("chat", "superchat"))

    assert (b"Sec-WebSocket-Protocol", b"chat") in handshake.answer("chat")
    with pytest.raises(ValueError, match="did not offer"):
        handshake.answer("other")


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize(
    "before, frame",
    [
        (b"", framed(b"", opcode=9)),
        (b"", framed(b"", opcode=10)),
        (framed(b"", fin=False), framed(b"", fin=False, opcode=0)),
        (framed(b"a", fin=False), framed(b"a", fin=False, opcode=0)),
        (b"", framed(b"")),
        (b"", framed(b"", fin=False) + framed(b"a", opcode=0)),
    ],
)
def test_of_many_frames_in_one_read_some_are_decoded_at_once(before: bytes, frame: bytes, closing: bool) -> None:
    _, server = joined()
    if before:
        server.receive(before)
    if closing:
        server.close(1000, "")
    many = 900
    messages = server.receive(frame * many + framed(b"\x03\xe8", opcode=8))
    calls = 1
    while server.unfinished:
        messages += server.go_on(2 * many, 1 << 20)
        calls += 1
    assert calls > many / AT_ONCE
    assert messages[-1] == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    assert server.finished
