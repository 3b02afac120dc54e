"""What ASGI 3 promises an application and its clients over HTTP, in asyncio's loop and in uvloop's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import PATIENCE, Served, bound, serving

FOLDER = Path(__file__).parent
LOOPS = ("asyncio", "uvloop")


@contextlib.contextmanager
def worker_of(*words: str, status: int = 0, environ: dict[str, str] | None = None) -> Iterator[Served]:
    with serving(["--backend", "asgi", *words, "asgi_app:app"], folder=FOLDER, environ=environ) as worker:
        yield worker
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
            assert worker.ended() == status, worker.log.decode()


@pytest.fixture(scope="module", params=LOOPS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with worker_of("--loop", request.param) as worker:
        yield worker


def body_of(served: Served, path: str) -> bytes:
    return served.request("GET", path)[1]


def scope_of(served: Served, path: str, **headers: str) -> dict[str, Any]:
    scope: dict[str, Any] = json.loads(served.request("GET", path, headers=headers)[1])
    return scope


@contextlib.contextmanager
def raw_request(served: Served, data: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(served.address, PATIENCE) as sock:
        sock.sendall(data)
        yield sock


def test_the_scope_says_what_the_request_said(served: Served) -> None:
    raw = served.raw(
        b"GET /show/caf%C3%A9/%2F?a=%20&b HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nCookie: a\r\nx-two: 2\r\n"
        b"Connection: close\r\n\r\n"
    )
    scope = json.loads(raw.partition(b"\r\n\r\n")[2])

    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["http_version"] == "1.1"
    assert scope["method"] == "GET"
    assert scope["scheme"] == "http"
    assert scope["path"] == "/show/café//"
    assert scope["raw_path"] == "/show/caf%C3%A9/%2F"
    assert scope["query_string"] == "a=%20&b"
    assert scope["root_path"] == ""
    assert scope["headers"] == [
        ["host", "h"], ["x-two", "1"], ["cookie", "a"], ["x-two", "2"], ["connection", "close"]
    ]  # fmt: skip
    assert scope["server"] == list(served.address)
    assert scope["client"][0] == "127.0.0.1"
    assert isinstance(scope["client"][1], int)
    assert scope["state"] == {"greeting": "from the lifespan"}
    assert "http.response.trailers" in scope["extensions"]


def test_what_an_application_writes_to_its_scope_stays_its_own(served: Served) -> None:
    for _ in range(3):
        body_of(served, "/spoil")
    with contextlib.closing(served.connect()) as conn:
        for _ in range(4):
            conn.request("GET", "/spoil")
            conn.getresponse().read()
        conn.request("GET", "/show")
        scope = json.loads(conn.getresponse().read())

    assert scope["state"] == {"greeting": "from the lifespan"}
    assert scope["headers"]
    assert scope["extensions"]
    assert scope["path"] == "/show"


def test_http_1_0_is_answered_in_its_own_way(served: Served) -> None:
    raw = served.raw(b"GET /show HTTP/1.0\r\n\r\n")
    scope = json.loads(raw.partition(b"\r\n\r\n")[2])

    assert scope["http_version"] == "1.0"
    assert "http.response.trailers" not in scope["extensions"]

    head, _, body = served.raw(b"GET /parts HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")

    assert b"chunked" not in head
    assert body == b"one two three"


def test_a_body_is_echoed_with_a_length_and_in_chunks(served: Served) -> None:
    body = bytes(range(256)) * 4000
    assert served.request("POST", "/echo", body)[1] == body
    with contextlib.closing(served.connect()) as conn:
        conn.request("POST", "/echo", iter([body[:10], body[10:]]), encode_chunked=True, headers={
            "Transfer-Encoding": "chunked"})  # fmt: skip
        assert conn.getresponse().read() == body


def test_a_body_streams_both_ways_at_once(served: Served) -> None:
    with raw_request(served, b"POST /stream_back HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n") as sock:
        file = sock.makefile("rb")
        for part in (b"first", b"second", b"third"):
            sock.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            while (line := file.readline()) and line.strip() != b"%x" % len(part):
                pass
            assert file.read(len(part) + 2) == part + b"\r\n"
        sock.sendall(b"0\r\n\r\n")
        assert file.readline() == b"0\r\n"


def test_an_unread_body_does_no_harm_to_the_next_request(served: Served) -> None:
    with contextlib.closing(served.connect()) as conn:
        conn.request("POST", "/ignore_body", b"x" * 200_000)  # 256 KiB is what is read of a body that nobody wants
        assert conn.getresponse().read() == b"ignored"
        conn.request("GET", "/hello")
        assert conn.getresponse().read() == b"hello"


def test_a_large_body_is_not_copied_for_each_client_that_does_not_read(served: Served) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    body = body_of(served, "/large")
    before = resident()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(raw_request(served, b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"))
            assert sock.recv(9) == b"HTTP/1.1 "
        assert resident() - before < 2 * len(body)


BROKEN = b"POST %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


def test_a_body_that_turns_out_broken_is_refused_while_the_application_waits_for_it(served: Served) -> None:
    with raw_request(served, BROKEN % b"/echo") as sock:
        assert body_of(served, "/hello") == b"hello"
        sock.sendall(b"zz\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
        replies = b"".join(iter(lambda: sock.recv(65536), b""))
    assert replies.startswith(b"HTTP/1.1 400 ")
    assert replies.count(b"HTTP/1.1") == 1


def test_a_request_that_was_answered_is_not_refused_too_when_its_body_turns_out_broken(served: Served) -> None:
    with raw_request(served, BROKEN % b"/hello") as sock:
        replies = sock.recv(65536)
        sock.sendall(b"zz\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
        replies += b"".join(iter(lambda: sock.recv(65536), b""))
    assert replies.startswith(b"HTTP/1.1 200 ")
    assert replies.count(b"HTTP/1.1") == 1


def test_a_client_that_expects_to_be_asked_is_asked_at_the_first_receive(served: Served) -> None:
    head = b"HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with raw_request(served, b"POST /echo " + head) as sock:
        file = sock.makefile("rb")
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        sock.sendall(b"body")
        assert file.readline() == b"\r\n"
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"

    raw = served.raw(b"POST /ignore_body " + head)

    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in raw


def test_an_upload_is_read_no_faster_than_it_is_taken(served: Served) -> None:
    size = 64 << 20
    before = int(body_of(served, "/memory"))
    with raw_request(served, b"POST /stalled HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size) as sock:
        sock.setblocking(False)
        block, sent = b"x" * 65536, 0
        sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += sock.send(block[: size - sent])
        assert sent < 32 << 20
        assert int(body_of(served, "/memory")) - before < 8 << 20
        body_of(served, "/let_go")
        sock.settimeout(PATIENCE)
        while sent < size:
            sent += sock.send(block[: size - sent])
        file = sock.makefile("rb")
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        assert b"%d" % size in file.read1(65536)


def test_a_slow_reader_slows_the_application_and_its_going_ends_it(served: Served) -> None:
    before = int(body_of(served, "/memory"))
    with raw_request(served, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"):
        body_of(served, "/report?sent%203")
        assert int(body_of(served, "/memory")) - before < 16 << 20
    assert body_of(served, "/report?endless:%20OSError")


def test_receive_tells_that_the_client_has_gone(served: Served) -> None:
    with raw_request(served, b"GET /until_disconnect HTTP/1.1\r\nHost: a\r\n\r\n"):
        body_of(served, "/report?waiting")
    assert body_of(served, "/report?until_disconnect:%20http.disconnect")


def test_after_the_reply_receive_disconnects_and_send_is_refused(served: Served) -> None:
    assert body_of(served, "/after_reply") == b"early"
    assert body_of(served, "/report?after_reply:%20http.disconnect").endswith(b"after the response had ended")


def test_a_connection_is_free_while_the_application_works_on(served: Served) -> None:
    with contextlib.closing(served.connect()) as conn:
        conn.request("GET", "/background")
        assert conn.getresponse().read() == b"done"
        conn.request("GET", "/hello")
        assert conn.getresponse().read() == b"hello"
        conn.request("GET", "/let_go")
        conn.getresponse().read()
    assert body_of(served, "/report?background:%20done")


def test_pieces_become_chunks(served: Served) -> None:
    raw = served.raw(b"GET /parts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert raw.partition(b"\r\n\r\n")[2] == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


def test_trailers_follow_the_last_chunk_and_cannot_change_the_framing(served: Served) -> None:
    raw = served.raw(b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n")

    assert raw.endswith(b"4\r\nbody\r\n0\r\nx-sum: 1\r\nx-end: 2\r\n\r\n")


def test_early_hints_come_before_the_response_and_only_to_http_1_1(served: Served) -> None:
    raw = served.raw(b"GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert raw.startswith(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\nHTTP/1.1 200 OK"
    )
    assert served.raw(b"GET /hints HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_a_path_is_sent_with_its_length(served: Served) -> None:
    response, body = served.request("GET", "/file")

    assert body == (FOLDER / "asgi_app.py").read_bytes()
    assert response.headers["Content-Length"] == str(len(body))
    _, body = served.request("HEAD", "/file")
    assert body == b""


def test_parts_of_a_descriptor_are_sent_among_other_pieces(served: Served) -> None:
    assert body_of(served, "/descriptor") == b"<234789"


def test_a_body_longer_than_its_length_is_cut_and_a_shorter_one_ends_the_connection(served: Served) -> None:
    assert served.request("GET", "/long")[1] == b"123"

    raw = served.raw(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.endswith(b"12345")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 205)])
def test_responses_without_a_body_have_none(served: Served, method: str, status: int) -> None:
    with contextlib.closing(served.connect()) as conn:
        conn.request(method, f"/empty?{status}")
        response = conn.getresponse()
        body = response.read()
        assert response.status == status
        assert body == b""
        conn.request("GET", "/hello")
        assert conn.getresponse().read() == b"hello"


def test_headers_may_be_any_iterable(served: Served) -> None:
    for _ in range(3):
        response, _ = served.request("GET", "/once_through")
        assert response.getheader("x-a") == "b"


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    one = b"GET /tasks HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    raw = served.raw(one + last)

    assert raw.index(b"fresh") < raw.index(b"hello")


def test_an_error_before_the_start_is_a_plain_500_and_later_a_cut_connection(served: Served) -> None:
    for path in ("/raises", "/interrupts"):
        response, body = served.request("GET", path)
        assert (response.status, body) == (500, b"500 Internal Server Error\n")

    raw = served.raw(b"GET /raises_late HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.endswith(b"5\r\nbegun\r\n")

    assert served.request("GET", "/returns_early")[0].status == 500


def test_wrong_messages_are_refused_with_words_that_help(served: Served) -> None:
    faults = json.loads(body_of(served, "/wrong"))

    assert faults == [
        "'http.response.body' was sent where 'http.response.start' is expected",
        "'nonsense' was sent where 'http.response.start' is expected",
        "http.response.start has no status",
        "the status '200' is not a number from 100 to 999",
        "the headers of http.response.start are not pairs of bytes: string argument without an encoding",
        "the header a has a control character in its value",
        "the interim status 101 is the server's to send",
        "a body consists of bytes, got str",
    ]


def test_tasks_timeouts_scopes_and_context_are_right_from_the_first_line(served: Served) -> None:
    for _ in range(2):
        assert body_of(served, "/tasks") == b"fresh mine mine mine"
    assert body_of(served, "/cancel_scope_first") == b"True"


def test_a_wildcard_address_is_told_as_the_one_that_the_client_used() -> None:
    with bound(address=("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        with serving(["--backend", "asgi", "asgi_app:app"], folder=FOLDER, listener=listener) as worker:
            assert scope_of(worker, "/show")["server"] == ["127.0.0.1", port]


def test_a_unix_socket_is_its_own_server_and_its_clients_have_no_address(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        bound(socket.AF_UNIX, path) as listener,
        serving(["--backend", "asgi", "asgi_app:app"], folder=FOLDER, listener=listener),
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.settimeout(PATIENCE)
        sock.connect(path)
        sock.sendall(b"GET /show HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        raw = sock.makefile("rb").read()
    scope = json.loads(raw.partition(b"\r\n\r\n")[2])

    assert scope["server"] == [path, None]
    assert scope["client"] is None


def test_ipv6_addresses_are_pairs() -> None:
    with (
        bound(socket.AF_INET6, ("::1", 0)) as listener,
        serving(["--backend", "asgi", "asgi_app:app"], folder=FOLDER, listener=listener) as worker,
    ):
        scope = scope_of(worker, "/show")

    assert scope["server"] == ["::1", listener.getsockname()[1] if listener.fileno() >= 0 else scope["server"][1]]
    assert scope["client"][0] == "::1"


def test_the_root_path_is_in_front_of_the_path_once() -> None:
    with worker_of("--root-path", "/api/") as worker:
        scope = scope_of(worker, "/show")
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/show", "/api/show")
        assert scope_of(worker, "/api/show")["path"] == "/api/show"
        whole = worker.raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b'"path": "*"' in whole


def test_a_root_path_is_escaped_in_the_raw_path() -> None:
    with worker_of("--root-path", "/a b/é%?") as worker:
        scope = json.loads(body_of(worker, "/show"))
        assert (scope["path"], scope["raw_path"]) == ("/a b/é%?/show", "/a%20b/%C3%A9%25%3F/show")
        raw = "/a%20b/%C3%A9%25%3F/%73how"
        scope = json.loads(body_of(worker, raw))
        assert (scope["path"], scope["raw_path"]) == ("/a b/é%?/show", raw)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_that_takes_too_long_is_cancelled_and_answered_504(loop: str) -> None:
    with worker_of("--timeout", "0.4", "--loop", loop) as worker:
        assert worker.request("GET", "/slow")[0].status == 504
        assert body_of(worker, "/report?slow:%20cancelled")
        worker.await_line("takes too long; it is here:")
        worker.await_line("asyncio.sleep(60)")
        with raw_request(worker, b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n") as sock:
            # A response that has begun may take as long as its client reads.
            body_of(worker, "/report?sent%203")
            sock.makefile("rb").read(64 << 20)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_blocks_the_loop_is_interrupted_and_answered_504(loop: str) -> None:
    with worker_of("--timeout", "0.5", "--loop", loop) as worker:
        assert worker.request("GET", "/blocks")[0].status == 504
        worker.await_line("os.read(reader, 1)")
        assert body_of(worker, "/hello") == b"hello"
