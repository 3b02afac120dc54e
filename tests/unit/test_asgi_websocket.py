"""Our end of a WebSocket against the library's own client end, joined without a network."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, State
from websockets.uri import parse_uri

from forkserve.serving.asgi.websocket import BadHandshake, Handshake, WebSocket, WebSocketLimits

LIMITS = WebSocketLimits(max_size=1000)


def joined(limits: WebSocketLimits = LIMITS, *, compress: bool = False) -> tuple[ClientProtocol, WebSocket]:
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
    return client, WebSocket(handshake, limits)


def to_server(client: ClientProtocol, server: WebSocket) -> list[dict[str, object]]:
    return [message for data in client.data_to_send() for message in server.receive(data)]


def to_client(server: WebSocket, client: ClientProtocol) -> list[Frame]:
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
