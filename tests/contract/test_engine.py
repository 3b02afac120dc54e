"""What the engine promises a WSGI application and its clients, under each way to run the application."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_corpus import Case, cases
from tests.support.serving import COMMAND, PATIENCE, Served, serving

FOLDER = Path(__file__).parent
BACKENDS = ("sync", "threads", "gevent")
WORDS = {"sync": [], "threads": ["--threads", "4"], "gevent": []}


@contextlib.contextmanager
def worker_of(backend: str, *words: str, app: str = "engine_app:app") -> Iterator[Served]:
    with serving(["--backend", backend, *WORDS[backend], *words, app], folder=FOLDER) as worker:
        yield worker
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0


@pytest.fixture(scope="module", params=BACKENDS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with worker_of(request.param) as worker:
        yield worker


def get(path: str, *lines: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: a", *lines, "", ""]).encode()


def one(worker: Served, path: str, *lines: str, body: bytes = b"", method: str = "GET") -> tuple[bytes, bytes]:
    """Head and body of the only response on a connection."""
    raw = worker.raw(get(path, "Connection: close", *lines, method=method) + body)
    head, _, rest = raw.partition(b"\r\n\r\n")
    return head, rest


def dechunked(body: bytes) -> bytes:
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        number = int(size, 16)
        if not number:
            assert body == b"\r\n"
            return out
        out += body[:number]
        body = body[number + 2 :]


class Client:
    """A connection on which responses are read one by one."""

    def __init__(self, worker: Served) -> None:
        self.sock = socket.create_connection(worker.address, PATIENCE)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bool:
        part = self.sock.recv(65536)
        self.buffer += part
        return bool(part)

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            assert self.more(), f"closed after {self.buffer!r}"
        out, _, self.buffer = self.buffer.partition(mark)
        return out + mark

    def response(self, method: str = "GET") -> tuple[bytes, bytes]:
        """The next final response, which has a Content-Length."""
        head = self.until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            head = self.until(b"\r\n\r\n")
        if method == "HEAD":
            return head, b""
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        length = int(fields.get(b"content-length", b"0"))
        while len(self.buffer) < length:
            assert self.more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return head, body

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while self.more():
                pass
        return self.buffer


def facts(worker: Served, *lines: str) -> dict[str, Any]:
    return json.loads(one(worker, "/facts?a=%20b", *lines)[1])  # type: ignore[no-any-return]


def test_the_environ_tells_the_truth(served: Served) -> None:
    found = facts(served, "X-A: 1", "X-A: 2", "Cookie: a=1", "Cookie: b=2", "X_A: forged", "Proxy: evil")
    expected = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/facts", "QUERY_STRING": "a=%20b",
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(served.address[1]), "HTTP_HOST": "a", "HTTP_X_A": "1,2", "HTTP_COOKIE": "a=1; b=2",
        "wsgi.url_scheme": "http", "wsgi.input_terminated": True, "wsgi.run_once": False,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert "HTTP_PROXY" not in found


H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
"""What Java's client and `curl --http2` say in a first request."""


@pytest.mark.parametrize(
    "upgrade", [H2C, ("Connection: upgrade", "Upgrade: TLS/1.0, IRC/6.9"), ("Upgrade: websocket",)]
)
def test_an_upgrade_that_is_ignored_changes_nothing(served: Served, upgrade: tuple[str, ...]) -> None:
    with Client(served) as client:
        for _ in range(4):
            client.send(get("/facts", *upgrade))
            head, body = client.response()
            assert head.startswith(b"HTTP/1.1 200 ") and b"close" not in head.lower()
            assert json.loads(body)["HTTP_UPGRADE"] == upgrade[-2 if upgrade is H2C else -1].partition(": ")[2]
            client.send(get("/echo", *upgrade, "Content-Length: 5", method="POST") + b"hello" + get("/facts", *upgrade))
            assert client.response()[1] == b"hello"
            assert client.response()[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("protocols", ["websocket", "WebSocket", "h2c, websocket", "websocket/13"])
def test_the_handshake_of_a_websocket_ends_the_connection(served: Served, protocols: str) -> None:
    with Client(served) as client:
        client.send(get("/echo", "Connection: Upgrade", f"Upgrade: {protocols}") + b"\x82\x80\0\0\0\0" + get("/echo"))
        received = client.rest()
    assert received.startswith(b"HTTP/1.1 200 ") and received.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in received


def test_the_environ_of_a_request_is_its_own_though_requests_repeat(served: Served) -> None:
    with Client(served) as client:
        for query in ("", "?1", "", "", "?1", "?2"):
            client.send(get(f"/facts{query}"))
            assert json.loads(client.response()[1])["QUERY_STRING"] == query[1:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_validator_of_the_standard_library_finds_nothing(backend: str) -> None:
    with worker_of(backend, app="engine_app:checked") as worker:
        for body in (b"", b"0123456789abc"):
            head, rest = one(worker, "/", f"Content-Length: {len(body)}", method="POST", body=body)
            assert head.startswith(b"HTTP/1.1 200"), worker.log
            assert b"fine" in rest


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_a_body_is_whole_whatever_its_size(served: Served, size: int) -> None:
    body = os.urandom(size)
    assert one(served, "/echo", f"Content-Length: {size}", method="POST", body=body)[1] == body


def test_a_chunked_body_is_whole_and_its_trailers_are_dropped(served: Served) -> None:
    chunks = b"5;x=y\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n"
    assert one(served, "/echo", "Transfer-Encoding: chunked", method="POST", body=chunks)[1] == b"hello world"


def test_lines_of_a_body_can_be_read(served: Served) -> None:
    body = b"first\nsecond\nthird"
    assert one(served, "/lines", "Content-Length: 18", method="POST", body=body)[1] == b"first\n|se|cond\n|third"


def test_half_a_body_never_reaches_the_application(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/echo", "Content-Length: 10", method="POST") + b"half")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with Client(served) as client:
        client.send(b"".join(get(f"/facts?{number}") for number in range(300)))
        for number in range(300):
            assert json.loads(client.response()[1])["QUERY_STRING"] == str(number)


def test_a_pipelined_request_follows_a_body(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/echo", "Content-Length: 3", method="POST") + b"one" + get("/facts?two"))
        assert client.response()[1] == b"one"
        assert json.loads(client.response()[1])["QUERY_STRING"] == "two"


def test_no_request_behind_a_refused_one_runs(served: Served) -> None:
    raw = served.raw(get("/facts") + b"GET / HTTP/9.9\r\n\r\n" + get("/facts"))
    assert raw.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 505" in raw


def test_a_large_body_is_not_copied_for_each_client_that_does_not_read(served: Served) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with contextlib.ExitStack() as stack:
        _, body = one(served, "/large")
        before = resident()
        for _ in range(8):
            client = stack.enter_context(Client(served))
            client.send(get("/large"))
            client.until(b"\r\n\r\n")
        assert resident() - before < 2 * len(body)


def test_head_has_no_body_and_a_length(served: Served) -> None:
    head, rest = one(served, "/several", method="HEAD")
    assert (b"Content-Length: 3" in head, rest) == (True, b"")


def test_204_has_no_body_and_no_length(served: Served) -> None:
    head, rest = one(served, "/empty")
    assert (b"Content-Length" in head, b"Transfer-Encoding" in head, rest) == (False, False, b"")


def test_a_stream_is_chunked_and_its_connection_kept(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/stream"))
        assert b"Transfer-Encoding: chunked" in client.until(b"\r\n\r\n")
        assert dechunked(client.until(b"0\r\n\r\n")) == b"0,1,2,3,4,"
        client.send(get("/several"))
        assert client.response()[1] == b"abc"


def test_a_stream_for_http_1_0_ends_with_the_connection(served: Served) -> None:
    raw = served.raw(get("/stream", version="1.0"))
    assert raw.endswith(b"\r\n\r\n0,1,2,3,4,")
    assert b"chunked" not in raw


def test_http_1_0_may_keep_its_connection(served: Served) -> None:
    with Client(served) as client:
        for _ in range(2):
            client.send(get("/several", "Connection: keep-alive", version="1.0"))
            head, body = client.response()
            assert (b"Connection: keep-alive" in head, body) == (True, b"abc")


@pytest.mark.parametrize("path", ["/several", "/raising", "/nothing", "/empty", "/stream"])
def test_every_reply_has_a_date(served: Served, path: str) -> None:
    assert b"\r\nDate: " in one(served, path)[0]


def test_an_error_reply_has_a_date_too(served: Served) -> None:
    assert b"\r\nDate: " in served.raw(b"nonsense\r\n\r\n")


def test_connect_never_succeeds(served: Served) -> None:
    assert served.raw(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").startswith(b"HTTP/1.1 501")


def test_write_sends_what_it_is_given(served: Served) -> None:
    assert len(dechunked(one(served, "/write")[1])) == 40 * 65536 + 3


def test_an_expectation_without_a_body_keeps_the_connection(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/several", "Expect: 100-continue", "Content-Length: 0", method="POST") + get("/several"))
        for _ in range(2):
            head, body = client.response()
            assert body == b"abc"
            assert b"\r\nConnection: close" not in head


def test_write_of_an_answered_request_is_no_answer_to_the_next(served: Served) -> None:
    # As a thread of an application would call it too late.
    with Client(served) as client:
        client.send(get("/keeps_write"))
        assert client.response()[1] == b"kept"
        client.send(get("/uses_kept"))
        assert client.response()[1] == b"write() was called after the response had ended"


def test_write_waits_for_a_slow_reader(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/write", "Connection: close"))
        client.until(b"\r\n\r\n")
        assert len(dechunked(client.rest())) == 40 * 65536 + 3


def test_a_longer_body_is_cut(served: Served) -> None:
    assert one(served, "/longer")[1] == b"long"


def test_a_shorter_body_closes_the_connection(served: Served) -> None:
    assert served.raw(get("/shorter")).endswith(b"\r\n\r\nshort")


@pytest.mark.parametrize(
    "path",
    [
        "/raising",
        "/text",
        "/nonsense",
        "/twice",
        "/injected",
        "/leaves",
        "/never_started",
        "/interrupts",
        "/once_through",
    ],
)
def test_a_broken_application_is_500_and_tells_nothing(served: Served, path: str) -> None:
    head, rest = one(served, path)
    assert head.startswith(b"HTTP/1.1 500")
    assert b"secret" not in rest
    assert b"X-C" not in head
    assert one(served, "/several")[1] == b"abc"


def test_an_error_is_logged_with_the_users_frames_alone(served: Served) -> None:
    one(served, "/raising?mark")
    served.await_line("ValueError: secret of the house")
    served.await_line("in raising")
    assert b"forkserve/wsgi" not in served.log


def test_an_error_after_the_head_closes_without_an_end(served: Served) -> None:
    assert served.raw(get("/late")).endswith(b"5\r\nbegun\r\n")


def test_exc_info_takes_the_head_back(served: Served) -> None:
    head, rest = one(served, "/retracted")
    assert (head[:12], rest) == (b"HTTP/1.1 503", b"sorry")


def test_hop_by_hop_headers_of_the_application_do_not_go_out(served: Served) -> None:
    head, rest = one(served, "/hop")
    assert (b"chunked" in head, b"Keep-Alive" in head, rest) == (False, False, b"ok")


def test_a_child_that_the_application_forks_does_not_serve(served: Served) -> None:
    assert one(served, "/forks")[1] == b"parent"
    assert one(served, "/several")[1] == b"abc"


def test_a_file_goes_out_from_where_it_stands(served: Served) -> None:
    head, rest = one(served, "/file")
    assert b"Content-Length: 999995" in head
    assert rest == (b"0123456789" * 100_000)[5:]


def test_a_file_goes_out_as_far_as_its_content_length(served: Served) -> None:
    assert one(served, "/file?7")[1] == b"5678901"


def test_a_file_wrapper_takes_what_can_only_be_read(served: Served) -> None:
    assert dechunked(one(served, "/reader")[1]) == b"r" * 30


def test_close_is_called_also_when_the_client_goes(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/endless"))
        client.until(b"\r\n\r\n")
    for path in ("/stream", "/text", "/late"):
        one(served, path)
    with Client(served) as client:
        while True:
            client.send(get("/closed"))
            if {"endless", "stream", "text", "late"} <= set(json.loads(client.response()[1])):
                break


def test_a_client_that_does_not_read_stops_the_stream_and_nobody_else(served: Served) -> None:
    with Client(served) as slow:
        slow.send(get("/endless"))
        slow.until(b"\r\n\r\n")
        seen = -1
        # The socket buffers of both sides fill, then the application is asked for no more.
        while (now := int(one(served, "/sent")[1])) != seen:
            seen = now
        assert one(served, "/several")[1] == b"abc"


def test_100_continue_comes_for_an_application_that_reads(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.response()[1] == b"hello"
        client.send(get("/several"))
        assert client.response()[1] == b"abc"


def test_a_greenlet_may_answer_before_the_client_is_asked_for_its_body() -> None:
    with worker_of("gevent") as worker, Client(worker) as client:
        client.send(get("/refuses", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert client.rest().startswith(b"HTTP/1.1 403")


def test_clients_that_expect_to_be_asked_and_then_stall_hold_nobody_up(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for body in (b"", b"", b"h", b"h"):
            client = stack.enter_context(Client(served))
            client.send(get("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
            client.until(b"100 Continue\r\n\r\n")
            client.send(body)
        assert one(served, "/several")[1] == b"abc"


def test_who_expects_to_be_asked_is_refused_too_much_before(served: Served) -> None:
    raw = one(served, "/echo", f"Content-Length: {1 << 40}", "Expect: 100-continue", method="POST")[0]
    assert raw.startswith(b"HTTP/1.1 413")


def test_who_sends_its_body_with_the_head_is_not_asked(served: Served) -> None:
    head, body = one(served, "/echo", "Content-Length: 5", "Expect: 100-continue", method="POST", body=b"hello")
    assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"hello")


def test_a_client_that_goes_before_its_body_is_an_error_for_the_reader(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        client.until(b"100 Continue\r\n\r\n")
        client.send(b"he")
        client.sock.shutdown(socket.SHUT_WR)
        assert b"200 OK" not in client.rest()
    assert one(served, "/several")[1] == b"abc"


def test_a_slow_head_holds_nobody_up(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(Client(served)).send(b"GET / HTTP/1.1\r\nHost: a\r\nX-")
        for _ in range(50):
            stack.enter_context(Client(served)).send(get("/echo", "Content-Length: 9", method="POST") + b"half")
        assert one(served, "/several")[1] == b"abc"


def test_descriptors_and_threads_do_not_pile_up(served: Served) -> None:
    def count() -> tuple[int, ...]:
        return tuple(map(int, one(served, "/threads")[1].split()))

    before = count()
    for path in ("/file", "/raising", "/late", "/stream", "/echo") * 10:
        one(served, path)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Client(served)).send(b"GET /")
    while (now := count())[1] > before[1]:
        pass
    assert now[0] <= 5


@pytest.mark.parametrize("case", [case for case in cases() if not case.incomplete], ids=str)
def test_the_corpus_comes_to_what_it_must(served: Served, case: Case) -> None:
    with Client(served) as client:
        client.send(case.raw)
        for _ in case.served:
            head, _ = client.response("HEAD" if case.raw.startswith(b"HEAD") else "GET")
            assert int(head[9:12]) < 400
        if case.refusal is not None:
            assert client.rest().startswith(b"HTTP/1.1 %d " % case.refusal)
        assert client.buffer == b"" or case.refusal is not None


@pytest.mark.parametrize(
    ("backend", "target"),
    [*((backend, "engine_app:app") for backend in BACKENDS), ("asgi", "asgi_app:app")],
)
def test_a_worker_alone_answers_all_who_wait_when_it_is_told_to_end(backend: str, target: str) -> None:
    words = [COMMAND, "--backend", backend, "--bind", "127.0.0.1:0", target]
    with subprocess.Popen(words, cwd=FOLDER, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = next(each for each in process.stderr if b" at http://" in each)
        address = ("127.0.0.1", int(line.rpartition(b":")[2]))
        # While it stands still, the kernel queues.
        process.send_signal(signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(50)]
            for client in clients:
                client.sendall(get("/several"))
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
            assert [client.recv(15) for client in clients] == [b"HTTP/1.1 200 OK"] * 50
        process.stderr.read()
        assert process.wait(PATIENCE) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE)


@pytest.mark.parametrize("kind", ["bz2", "gzip", "lzma", "fifo", "proc", "named"])
def test_a_file_wrapper_sends_what_read_gives(served: Served, kind: str) -> None:
    response, body = served.request("GET", f"/reads?{kind}")
    assert response.status == 200
    assert b"(forkserve" in body if kind == "proc" else body == b"0123456789" * 1000
