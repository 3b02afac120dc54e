"""WebSockets through a real worker: the `websockets` client, and raw frames where no client would misbehave enough."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.contract.test_asgi_http import LOOPS, body_of, worker_of
from tests.support.serving import PATIENCE, Served

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OPENING = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + KEY
    + b"\r\nSec-WebSocket-Version: 13\r\n"
)  # fmt: skip


@pytest.fixture(scope="module", params=LOOPS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with worker_of("--loop", request.param) as worker:
        yield worker


@contextlib.contextmanager
def client(served: Served, path: str = "/ws", **options: object) -> Iterator[ClientConnection]:
    host, port = served.address
    with connect(f"ws://{host}:{port}{path}", open_timeout=PATIENCE, **options) as ws:  # type: ignore[arg-type]
        yield ws


def frame(opcode: int, data: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    size = bytes([len(data) | 128 * masked]) if len(data) < 126 else bytes([126 | 128 * masked]) + struct.pack(
        "!H", len(data))  # fmt: skip
    return bytes([opcode | 128 * fin]) + size + (b"\0\0\0\0" if masked else b"") + data


@contextlib.contextmanager
def raw_socket(served: Served, *extra: bytes, behind: bytes = b"") -> Iterator[socket.socket]:
    """A handshake by hand; the 101 is read already."""
    with socket.create_connection(served.address, PATIENCE) as sock:
        sock.sendall(OPENING + b"".join(extra) + b"\r\n" + behind)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield sock


def test_messages_are_echoed_compressed_and_not(served: Served) -> None:
    for compression in ("deflate", None):
        with client(served, compression=compression) as ws:
            for message in ("grüße", b"\x00\xff", "", "x" * 200_000, os.urandom(300_000)):
                ws.send(message)
                assert ws.recv(PATIENCE) == message


def test_the_scope_and_the_answer_carry_what_was_negotiated(served: Served) -> None:
    with client(served, "/ws/scope?a=1", subprotocols=["one", "two"]) as ws:  # type: ignore[list-item]
        scope = json.loads(ws.recv(PATIENCE))
        assert ws.subprotocol == "two"
        assert ws.response is not None
        assert ws.response.headers["x-accepted"] == "yes"

    assert scope["type"] == "websocket"
    assert scope["scheme"] == "ws"
    assert scope["path"] == "/ws/scope"
    assert scope["query_string"] == "a=1"
    assert scope["subprotocols"] == ["one", "two"]
    assert "method" not in scope
    assert "websocket.http.response" in scope["extensions"]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/ws/forbidden", 403, b"403 Forbidden\n"),
        ("/ws/denied", 418, b"no coffee"),
        ("/ws/raises", 500, b"500 Internal Server Error\n"),
    ],
)
def test_a_handshake_can_be_denied(served: Served, path: str, status: int, body: bytes) -> None:
    with pytest.raises(InvalidStatus) as denied, client(served, path):
        pass

    assert denied.value.response.status_code == status
    assert denied.value.response.body == body


@pytest.mark.parametrize(("command", "code"), [("close", 4000), ("return", 1000), ("raise", 1011)])
def test_the_application_ends_a_socket_with_the_fitting_code(served: Served, command: str, code: int) -> None:
    with client(served) as ws:
        ws.send(command)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(PATIENCE)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


def test_the_clients_close_is_told_with_code_and_reason(served: Served) -> None:
    with client(served) as ws:
        ws.close(4001, "bye")

    assert body_of(served, "/report?websocket:%204001%20bye")


def test_a_close_without_a_code_is_1005_and_a_lost_client_1006(served: Served) -> None:
    with raw_socket(served) as sock:
        sock.sendall(frame(8, b""))
        assert sock.recv(100) == b"\x88\x00"
        assert sock.recv(100) == b""
    assert body_of(served, "/report?websocket:%201005")
    with raw_socket(served) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert body_of(served, "/report?websocket:%201006")


def test_frames_behind_the_handshake_and_in_single_bytes_are_read(served: Served) -> None:
    with raw_socket(served, behind=frame(1, b"early")) as sock:
        assert sock.recv(7, socket.MSG_WAITALL) == frame(1, b"early", masked=False)
        for byte in frame(1, b"frag", fin=False) + frame(9, b"ping") + frame(0, b"ment"):
            sock.sendall(bytes([byte]))
        assert sock.recv(6, socket.MSG_WAITALL) == frame(10, b"ping", masked=False)
        assert sock.recv(10, socket.MSG_WAITALL) == frame(1, b"fragment", masked=False)


@pytest.mark.parametrize("count", [31, 32, 33, 64, 100])
def test_a_message_that_is_begun_behind_a_full_queue_comes_to_its_end(served: Served, count: int) -> None:
    with raw_socket(served) as sock, sock.makefile("rb") as answers:
        sock.sendall(frame(1, b"x") * count + frame(1, b"frag", fin=False))
        assert answers.read(3 * count) == frame(1, b"x", masked=False) * count
        sock.sendall(frame(0, b"ment"))
        assert answers.read(10) == frame(1, b"fragment", masked=False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"not masked", masked=False), 1002),
        (frame(3, b"reserved"), 1002),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(0, b"of nothing"), 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", 1009),
    ],
)
def test_what_breaks_the_protocol_ends_the_socket_with_its_code(served: Served, data: bytes, code: int) -> None:
    with raw_socket(served) as sock:
        sock.sendall(data)
        answer = sock.makefile("rb").read()
    assert answer[0] == 0x88
    assert int.from_bytes(answer[2:4], "big") == code


def test_a_bad_handshake_is_400_and_other_upgrades_are_plain_requests(served: Served) -> None:
    bad = OPENING.replace(KEY, b"short") + b"\r\n"
    raw = served.raw(bad)
    assert raw.startswith(b"HTTP/1.1 400 ")
    # RFC 6455 section 4.4: which version is spoken here.
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in raw
    other = OPENING.replace(b"Upgrade: websocket", b"Upgrade: h2c").replace(b"/ws", b"/hello")
    with socket.create_connection(served.address, PATIENCE) as sock:
        for _ in range(3):
            sock.sendall(other + b"\r\n")
            answer = sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"close" not in answer.lower()


def test_a_client_that_does_not_read_slows_the_application(served: Served) -> None:
    before = int(body_of(served, "/memory"))
    with raw_socket(served) as sock:
        sock.sendall(frame(1, b"flood"))
        body_of(served, "/report?flooded%203")
        assert int(body_of(served, "/memory")) - before < 16 << 20
    assert body_of(served, "/report?flood:%20OSError")


def test_a_client_that_floods_without_reading_is_read_no_more(served: Served) -> None:
    before = int(body_of(served, "/memory"))
    with raw_socket(served) as sock:
        sock.settimeout(0.3)
        block = frame(2, b"x" * 60_000) * 20
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += sock.send(block)
        assert sent < 48 << 20
        assert int(body_of(served, "/memory")) - before < 24 << 20


def overtakes(served: Served, sent: bytes, opening: bytes) -> bool:
    """Tell whether a request behind so many frames of another client is answered before all of them are."""
    with socket.create_connection(served.address, PATIENCE) as flood:
        flood.sendall(opening + b"\r\n")
        assert flood.recv(13, socket.MSG_WAITALL) == b"HTTP/1.1 101 "
        while select.select([flood], [], [], 0)[0]:
            flood.recv(65536)
        # The close behind them is answered last.
        flood.sendall(sent + frame(8, b"\x03\xe8"))
        body_of(served, "/hello")
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while part := flood.recv(65536):
                if part.endswith(frame(8, b"\x03\xe8", masked=False)):
                    return False
        flood.settimeout(PATIENCE)
        while flood.recv(65536):
            pass
    return True


@pytest.mark.parametrize(
    "sent",
    [
        frame(9, b"") * 10_000,
        frame(1, b"", fin=False) + frame(0, b"", fin=False) * 10_000,
        (frame(1, b"", fin=False) + frame(0, b"a")) * 5_000,
        frame(0x42, b"\0") * 8_000,
    ],
)
def test_many_small_frames_of_one_client_let_others_be_served(served: Served, sent: bytes) -> None:
    opening = OPENING + DEFLATED * (sent[0] >> 6 & 1)
    assert any(overtakes(served, sent, opening) for _ in range(5))


DEFLATED = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


def bomb(size: int, *, fin: bool = True) -> bytes:
    """A frame with so many zeros, a thousand times smaller."""
    deflate = zlib.compressobj(9, wbits=-12)
    return frame(0x42, (deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4], fin=fin)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (b"/ws/deaf", bomb(15 << 20) * 4),
        (b"/ws/deaf", bomb(15 << 20)),
        (b"/ws", bomb(15 << 20, fin=False)),
        (b"/ws/deaf", frame(0x42, b"\0") * 8000),
    ],
)
def test_what_a_client_sends_compressed_takes_no_more_memory_until_it_is_wanted(path: bytes, sent: bytes) -> None:
    with worker_of() as worker, contextlib.ExitStack() as stack:
        body_of(worker, "/hello")
        before = int(body_of(worker, "/memory"))
        for _ in range(6):
            with socket.create_connection(worker.address, PATIENCE) as sock:
                stack.enter_context(sock.dup()).sendall(OPENING.replace(b"/ws", path) + DEFLATED + b"\r\n")
                assert sock.recv(13, socket.MSG_WAITALL) == b"HTTP/1.1 101 "
                sock.sendall(sent)
        # Each answer comes after what was sent before its request was read.
        for _ in range(3):
            body_of(worker, "/hello")
        assert int(body_of(worker, "/memory")) - before < 20 << 20


def test_a_long_compressed_message_comes_whole_to_an_application_that_wants_it(served: Served) -> None:
    with client(served, max_size=None) as ws:
        for message in ("é" * 3_000_000, bytes(9_000_000), "after"):
            ws.send(message)
        for message in ("é" * 3_000_000, bytes(9_000_000), "after"):
            assert ws.recv(PATIENCE) == message


def test_without_compression_none_is_negotiated_and_sizes_are_limited() -> None:
    with worker_of("--no-ws-compression", "--ws-max-size", "1000") as worker:
        with client(worker) as ws:
            assert not ws.protocol.extensions
            ws.send("x" * 1000)
            assert ws.recv(PATIENCE) == "x" * 1000
            ws.send("x" * 1001)
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_a_client_that_answers_no_ping_is_given_up() -> None:
    # the answers below must come in this time on a busy machine, too
    with worker_of("--ws-ping-interval", "0.1", "--ws-ping-timeout", "1.5") as worker:
        with raw_socket(worker) as sock:
            for _ in range(2):
                assert sock.recv(2, socket.MSG_WAITALL) == b"\x89\x00"
                sock.sendall(frame(10, b""))
            rest = sock.makefile("rb").read()
        assert rest.startswith(b"\x89\x00\x88")
        assert int.from_bytes(rest[4:6], "big") == 1011
        assert body_of(worker, "/report?websocket:%201011")


def test_the_bytes_of_a_long_message_show_that_its_client_is_there() -> None:
    data = frame(1, b"x" * 100)
    with worker_of("--ws-ping-interval", "0.1", "--ws-ping-timeout", "1.5") as worker, raw_socket(worker) as sock:
        assert sock.recv(2, socket.MSG_WAITALL) == b"\x89\x00"
        sock.settimeout(0.05)
        for byte in data[:35]:  # for longer than the time-out
            sock.sendall(bytes([byte]))
            with pytest.raises(TimeoutError):
                sock.recv(1)
        sock.settimeout(PATIENCE)
        sock.sendall(data[35:])
        assert sock.recv(102, socket.MSG_WAITALL) == frame(1, b"x" * 100, masked=False)
        rest = sock.makefile("rb").read()
        assert int.from_bytes(rest[2:4], "big") == 1011


def test_draining_tells_sockets_that_the_service_restarts() -> None:
    with worker_of("--graceful-timeout", "4") as worker, client(worker) as one, client(worker) as two:
        for ws in (one, two):
            ws.send("here")
            assert ws.recv(PATIENCE) == "here"
        worker.signal(signal.SIGTERM)
        for ws in (one, two):
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert worker.ended() == 0


@pytest.mark.parametrize("form", ['%(h)s "%(r)s" %(s)s %(i)s', "json"])
def test_a_handshake_has_an_id_and_leaves_a_line_when_it_is_answered(form: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    words = ["--access-log", str(log), "--access-log-format", form, "--request-id-header", "X-Request-ID"]
    with worker_of(*words) as worker:
        with client(worker, "/ws/scope", additional_headers={"X-Request-ID": "first"}) as ws:
            scope = json.loads(ws.recv(PATIENCE))
            assert scope["extensions"]["forkserve.request_id"] == {"id": "first"}
            assert ws.response is not None
            assert ws.response.headers["x-request-id"] == "first"
            while not log.read_text():
                assert worker.process.poll() is None
        for number, path in enumerate(("/ws/forbidden", "/ws/denied", "/ws/raises")):
            refusal = pytest.raises(InvalidStatus)
            with refusal, client(worker, path, additional_headers={"X-Request-ID": f"id-{number}"}):
                pass
            assert refusal.excinfo is not None
            assert refusal.excinfo.value.response.headers["x-request-id"] == f"id-{number}"
        body_of(worker, "/hello")
    lines = log.read_text().splitlines()
    if form == "json":
        found = [(line["target"], line["status"], line["request_id"]) for line in map(json.loads, lines)]
    else:
        parts = [line.split() for line in lines]
        found = [(part[2], int(part[4]), part[5]) for part in parts]
        assert {part[0] for part in parts} == {"127.0.0.1"}
    assert found[:-1] == [
        ("/ws/scope", 101, "first"),
        ("/ws/forbidden", 403, "id-0"),
        ("/ws/denied", 418, "id-1"),
        ("/ws/raises", 500, "id-2"),
    ]
    assert found[-1][:2] == ("/hello", 200)
