"""What the options of the engine change, under each way to run the application."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_engine import BACKENDS, FOLDER, WORDS, Client, get, one, worker_of
from tests.support.serving import PATIENCE, Served, bound, run_worker, serving
from tests.support.tls import make_certificate

each_backend = pytest.mark.parametrize("backend", BACKENDS)


LIMITS = ["--header-timeout", "0.2", "--body-timeout", "0.2", "--write-timeout", "0.3", "--max-body", "10"]
"""Each is met at another stage of a request, so one worker has them all."""


@pytest.fixture(scope="module", params=BACKENDS)
def limited(request: pytest.FixtureRequest) -> Iterator[Served]:
    with worker_of(request.param, *LIMITS) as worker:
        yield worker


def answer_of_part(worker: Served, data: bytes) -> bytes:
    """The answer to a part of a request; asks again if a connection has expired before anything was sent on it."""
    for _ in range(5):
        with contextlib.suppress(ConnectionError), Client(worker) as client:
            client.send(data)
            if received := client.rest():
                return received
    return b""


def test_a_head_has_a_time_limit(limited: Served) -> None:
    assert answer_of_part(limited, b"GET / HTTP/1.1\r\nHost: a\r\nX").startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_request_has_a_time_limit(limited: Served) -> None:
    with Client(limited) as client:
        assert client.rest() == b""


def test_a_body_has_a_time_limit(limited: Served) -> None:
    half = get("/echo", "Content-Length: 9", method="POST") + b"half"
    assert answer_of_part(limited, half).startswith(b"HTTP/1.1 408")


@each_backend
def test_a_body_that_drips_has_a_time_limit(backend: str) -> None:
    # Each byte comes long before --body-timeout, and all of them never at the rate that is asked for.
    with worker_of(backend, "--min-rate", "1M", "--body-timeout", "1") as worker, Client(worker) as client:
        client.send(get("/echo", "Content-Length: 100000000", method="POST"))
        received, waited = b"", time.monotonic()
        while not received:
            with contextlib.suppress(OSError):
                client.sock.sendall(b"x")
            if select.select([client.sock], [], [], 0.05)[0]:
                received = client.rest()
            assert time.monotonic() - waited < PATIENCE
        assert received.startswith(b"HTTP/1.1 408")


@each_backend
def test_a_worker_leaves_when_it_has_too_much_memory(backend: str) -> None:
    with worker_of(backend, "--max-rss", "1M") as worker:
        assert worker.ended() == 0
        assert b"resident" in worker.log


@each_backend
def test_an_idle_connection_has_a_time_limit(backend: str) -> None:
    with worker_of(backend, "--keep-alive", "0.2") as worker, Client(worker) as client:
        client.send(get("/several"))
        assert client.response()[1] == b"abc"
        assert client.rest() == b""


def test_a_client_that_does_not_read_has_a_time_limit(limited: Served) -> None:
    with Client(limited) as client:
        client.send(get("/endless"))
        while b"endless" not in one(limited, "/closed")[1]:
            pass


@contextlib.contextmanager
def slow_reader(backend: str, *words: str) -> Iterator[socket.socket]:
    """Request what write() sends, which waits in place, over a connection that holds little."""
    with bound() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        line = ["--backend", backend, *WORDS[backend], *words, "engine_app:app"]
        with serving(line, folder=FOLDER, listener=listener) as worker, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect(worker.address)
            client.sendall(get("/write", "Connection: close"))
            yield client


def test_a_client_that_reads_slowly_and_rests_is_not_given_up() -> None:
    # All of it within one write() and longer than the time-out in sum; the rest is longer than a turn of the loop.
    pause = threading.Event()
    with slow_reader("sync", "--write-timeout", "4") as client:
        received, began = client.recv(2048), time.monotonic()
        while time.monotonic() < began + 3.1:
            received += client.recv(2048)
            pause.wait(0.03)
        pause.wait(1.3)
        while part := client.recv(65536):
            received += part
        assert received.endswith(b"0\r\n\r\n")


@each_backend
def test_a_client_that_reads_too_slowly_does_not_hold_its_place_for_ever(backend: str) -> None:
    pause, received = threading.Event(), b""
    with slow_reader(backend, "--write-timeout", "0.3") as client, contextlib.suppress(ConnectionResetError):
        for _ in range(300):
            part = client.recv(1024)
            received += part
            if not part:
                break
            pause.wait(0.03)
        assert not part
    assert not received.endswith(b"0\r\n\r\n")


@each_backend
@pytest.mark.parametrize("path", ["/hangs", "/receives", "/spins"])
def test_a_request_that_takes_too_long_is_504_and_its_place_is_logged(backend: str, path: str) -> None:
    with worker_of(backend, "--timeout", "0.4") as worker:
        head, _ = one(worker, path)
        assert head.startswith(b"HTTP/1.1 504")
        worker.await_line("takes too long")
        worker.await_line(f"in {path[1:]}")
        if backend != "threads" or path == "/spins":
            assert one(worker, "/several")[1] == b"abc"
        else:
            # A thread that is deep in the kernel cannot be interrupted, so the worker makes room for another.
            assert worker.ended() == 0


@each_backend
def test_a_worker_leaves_after_max_requests_and_says_so_to_its_clients(backend: str) -> None:
    with worker_of(backend, "--max-requests", "3") as worker:
        with Client(worker) as client:
            for last in (False, False, True):
                client.send(get("/several"))
                assert (b"Connection: close" in client.response()[0]) == last
        assert worker.ended() == 0


@each_backend
def test_a_worker_leaves_after_its_lifetime(backend: str) -> None:
    with worker_of(backend, "--max-lifetime", "0.3") as worker:
        assert worker.ended() == 0


@each_backend
def test_a_kept_connection_is_served_once_more_while_draining(backend: str) -> None:
    with worker_of(backend) as worker, Client(worker) as client:
        client.send(get("/several"))
        client.response()
        worker.signal(signal.SIGTERM)
        worker.await_line("draining")
        head = b""
        # The loop may still have been at work when the line was written.
        while b"Connection: close" not in head:
            client.send(get("/several"))
            head, body = client.response()
            assert body == b"abc"
        assert worker.ended() == 0


@each_backend
def test_a_stream_can_ask_whether_the_worker_drains_and_end_whole(backend: str) -> None:
    with worker_of(backend) as worker, Client(worker) as client:
        client.send(get("/until_drained"))
        client.until(b"tick")
        worker.signal(signal.SIGTERM)
        assert client.rest().endswith(b"over\r\n0\r\n\r\n")
        assert worker.ended() == 0


def test_a_body_beyond_the_limit_is_413(limited: Served) -> None:
    assert one(limited, "/echo", "Content-Length: 11", method="POST")[0].startswith(b"HTTP/1.1 413")
    chunked = one(limited, "/echo", "Transfer-Encoding: chunked", method="POST", body=b"b\r\n")
    assert chunked[0].startswith(b"HTTP/1.1 413")


@each_backend
def test_a_trusted_proxy_says_who_the_client_is(backend: str) -> None:
    lines = ("X-Forwarded-For: 9.9.9.9, 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example")
    names = ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT")
    with worker_of(backend, "--forwarded-allow-ips", "127.0.0.1") as worker:
        found = json.loads(one(worker, "/facts", *lines)[1])
        assert [found[name] for name in names] == ["1.2.3.4", "https", "a", "443"]
    with worker_of(backend, "--forwarded-fields", "X-Forwarded-Proto,host") as worker:
        found = json.loads(one(worker, "/facts", *lines)[1])
        assert [found[name] for name in names] == ["127.0.0.1", "https", "shop.example", "443"]
    with worker_of(backend, "--forwarded-allow-ips", "10.0.0.0/8") as worker:
        found = json.loads(one(worker, "/facts", *lines)[1])
        assert [found[name] for name in names[:3]] == ["127.0.0.1", "http", "a"]


def test_a_name_that_proxies_do_not_use_is_refused() -> None:
    outcome = run_worker("--forwarded-fields", "for,server", "engine_app:app", folder=FOLDER)
    assert outcome.status == 2
    assert "--forwarded-fields" in outcome.error and "for, proto, host, port" in outcome.error


def test_forwarded_counts_where_it_is_agreed() -> None:
    with worker_of("sync", "--forwarded-style", "forwarded") as worker:
        lines = ('Forwarded: for="[2001:db8::1]:4711";proto=https;host=evil', "X-Forwarded-For: 6.6.6.6")
        found = json.loads(one(worker, "/facts", *lines)[1])
        assert [found[name] for name in ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST")] == [
            "2001:db8::1", "4711", "https", "a",
        ]  # fmt: skip


@each_backend
def test_the_proxy_protocol_says_who_the_client_is(backend: str) -> None:
    with worker_of(backend, "--proxy-protocol", "v1") as worker:
        with Client(worker) as client:
            client.send(b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r")
            client.send(b"\n" + get("/facts"))
            found = json.loads(client.response()[1])
            assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("1.2.3.4", "1111")
            client.send(get("/facts"))
            assert json.loads(client.response()[1])["REMOTE_ADDR"] == "1.2.3.4"
        assert worker.raw(get("/facts")).startswith(b"HTTP/1.1 400")


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes([1, 2, 3, 4, 5, 6, 7, 8]) + (1111).to_bytes(2, "big") + b"\0\x50"
LOCAL = SIGNATURE + b"\x20\0\0\0"
V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n"


@each_backend
@pytest.mark.parametrize(
    ("kind", "header", "client"),
    [
        ("v2", V2, "1.2.3.4"),
        ("v2", LOCAL, "127.0.0.1"),
        ("v2", V1, None),
        ("v2", b"", None),
        ("v1", V2, None),
        ("auto", V1, "1.2.3.4"),
        ("auto", V2, "1.2.3.4"),
        ("auto", b"", "127.0.0.1"),
    ],
)
def test_each_kind_of_proxy_header_is_read_where_it_is_agreed(
    backend: str, kind: str, header: bytes, client: str | None
) -> None:
    with worker_of(backend, "--proxy-protocol", kind) as worker:
        head, _, body = worker.raw(header + get("/facts", "Connection: close")).partition(b"\r\n\r\n")
        if client is None:
            assert not head.startswith(b"HTTP/1.1 200")
        else:
            assert json.loads(body)["REMOTE_ADDR"] == client


@each_backend
def test_a_proxy_header_comes_before_tls(backend: str, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    context = ssl.create_default_context(cafile=cert)
    words = ["--proxy-protocol", "auto", "--certfile", cert, "--keyfile", key]
    with worker_of(backend, *words) as worker:
        worker.await_line("at https://")
        for header, client in ((V1, "1.2.3.4"), (V2, "1.2.3.4"), (LOCAL, "127.0.0.1"), (b"", "127.0.0.1")):
            with socket.create_connection(worker.address, PATIENCE) as plain:
                plain.sendall(header[:9])
                plain.sendall(header[9:])
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                    sock.sendall(get("/facts", "Connection: close"))
                    received = b""
                    while part := sock.recv(65536):
                        received += part
                    assert json.loads(received.partition(b"\r\n\r\n")[2])["REMOTE_ADDR"] == client
        with contextlib.suppress(ConnectionResetError):
            assert worker.raw(b"PROXY nonsense\r\n") == b""


@each_backend
def test_a_stranger_sends_no_proxy_header(backend: str) -> None:
    words = ["--proxy-protocol", "v2", "--proxy-allow-from", "10.0.0.0/8"]
    with worker_of(backend, *words) as worker, contextlib.suppress(ConnectionResetError):
        assert worker.raw(V2 + get("/facts", "Connection: close")) == b""


@each_backend
@pytest.mark.parametrize("form", ["%(h)s %(r)s %(s)s %(B)s %(a)s", "json"])
def test_each_request_leaves_a_line_that_it_cannot_forge(backend: str, form: str, tmp_path: Path) -> None:
    log = tmp_path / "access"
    with worker_of(backend, "--access-log", str(log), "--access-log-format", form) as worker:
        one(worker, "/several?%0d%0a", 'User-Agent: a"\x7f'.replace("\x7f", "\xe9"))
        one(worker, "/stream")
        one(worker, "/raising")
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    if form == "json":
        assert [json.loads(line)["status"] for line in lines] == [200, 200, 500]
    else:
        assert lines[0].startswith('127.0.0.1 GET /several?%0d%0a HTTP/1.1 200 3 a\\"\\x')
        assert lines[1].startswith("127.0.0.1 GET /stream HTTP/1.1 200 10 ")


def test_the_access_log_is_reopened_by_usr1(tmp_path: Path) -> None:
    log = tmp_path / "access"
    with worker_of("sync", "--access-log", str(log), "--access-log-format", "%(U)s") as worker:
        one(worker, "/several")
        while not log.exists() or not log.read_text():
            pass
        log.rename(tmp_path / "old")
        worker.signal(signal.SIGUSR1)
        one(worker, "/empty")
    assert ((tmp_path / "old").read_text(), log.read_text()) == ("/several\n", "/empty\n")


@pytest.mark.parametrize(("backend", "target"), [("sync", "engine_app:app"), ("asgi", "asgi_app:app")])
def test_static_files_are_served_with_ranges_and_conditions(backend: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("0123456789")
    (tmp_path / ".secret").write_text("no")
    (tmp_path / "out").symlink_to("/etc/hostname")
    words = ["--backend", backend, "--static", f"/static={tmp_path}", target]
    with serving(words, folder=FOLDER) as worker:
        head, body = one(worker, "/static/page.html")
        assert (head[:12], b"Content-Type: text/html" in head, body) == (b"HTTP/1.1 200", True, b"0123456789")
        etag = next(line for line in head.split(b"\r\n") if line.startswith(b"ETag")).decode().split(" ")[1]
        assert one(worker, "/static/page.html", f"If-None-Match: {etag}")[0].startswith(b"HTTP/1.1 304")
        head, body = one(worker, "/static/page.html", "Range: bytes=2-4")
        assert (head[:12], b"Content-Range: bytes 2-4/10" in head, body) == (b"HTTP/1.1 206", True, b"234")
        assert one(worker, "/static/page.html", "Range: bytes=20-")[0].startswith(b"HTTP/1.1 416")
        assert one(worker, "/static/page.html", method="HEAD")[1] == b""
        # An empty field is one that holds for nothing, not one that is missing.
        assert one(worker, "/static/page.html", "If-Match:")[0].startswith(b"HTTP/1.1 412")
        assert one(worker, "/static/page.html", "If-Range:", "Range: bytes=2-4")[0].startswith(b"HTTP/1.1 200")
        for path in (
            "/static/.secret",
            "/static/out",
            "/static/../etc/passwd",
            "/static/%2e%2e/x",
            "/static/",
            "/static/page.html/",
            "/statics",
        ):
            assert one(worker, path)[1].startswith(b"{"), path
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@each_backend
def test_tls_carries_all_that_plain_sockets_carry(backend: str, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    context = ssl.create_default_context(cafile=cert)
    body = os.urandom(1_000_000)
    with worker_of(backend, "--certfile", cert, "--keyfile", key) as worker:
        for path, sent, expected in (
            ("/echo", body, body), ("/file", b"", (b"0123456789" * 100_000)[5:]), ("/several", b"", b"abc"),
        ):  # fmt: skip
            with (
                socket.create_connection(worker.address, PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
            ):
                sock.sendall(get(path, f"Content-Length: {len(sent)}", "Connection: close", method="POST") + sent)
                received = b""
                while part := sock.recv(65536):
                    received += part
                assert received.partition(b"\r\n\r\n")[2] == expected
        assert b"HTTP/1.1 200" not in _plain(worker.address)


def _plain(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, PATIENCE) as sock:
        sock.sendall(get("/"))
        with contextlib.suppress(ConnectionResetError):
            return sock.recv(100)
        return b""


@each_backend
def test_a_unix_socket_has_no_addresses(backend: str, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listener = bound(socket.AF_UNIX, path)
    with listener, serving(["--backend", backend, "engine_app:app"], folder=FOLDER, listener=listener) as worker:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(path)
            sock.sendall(get("/facts", "Connection: close"))
            raw = b""
            while part := sock.recv(65536):
                raw += part
        found = json.loads(raw.partition(b"\r\n\r\n")[2])
        assert (found["REMOTE_ADDR"], found["SERVER_NAME"]) == ("", "localhost")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_ipv6_addresses_are_told(tmp_path: Path) -> None:
    with bound(socket.AF_INET6, ("::1", 0)) as listener:
        words = ["--backend", "sync", "engine_app:app"]
        with serving(words, folder=FOLDER, listener=listener) as worker:
            found = json.loads(one(worker, "/facts")[1])
            assert (found["REMOTE_ADDR"], found["SERVER_NAME"]) == ("::1", "::1")


@each_backend
def test_running_out_of_descriptors_is_survived(backend: str) -> None:
    with worker_of(backend) as worker:
        one(worker, "/several")
        subprocess.run(["prlimit", f"--pid={worker.process.pid}", "--nofile=40:40"], check=True)
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(Client(worker))
            worker.await_line("cannot accept")
        assert one(worker, "/several")[1] == b"abc"


@each_backend
def test_the_root_path_goes_from_the_path_to_the_script_name(backend: str) -> None:
    with worker_of(backend, "--root-path", "/shop/ä/") as worker:
        for _ in range(3):
            for path in ("/shop/%C3%A4/facts", "/facts"):
                found = json.loads(one(worker, path + "?a=/shop")[1])
                assert found["SCRIPT_NAME"].encode("latin-1") == "/shop/ä".encode()
                assert (found["PATH_INFO"], found["RAW_URI"]) == ("/facts", path + "?a=/shop")
            # What only begins alike is no part of the tree.
            found = json.loads(one(worker, "/shop/%C3%A4facts")[1])
            assert found["PATH_INFO"].encode("latin-1") == "/shop/äfacts".encode()


def test_a_line_without_a_limit_has_that_of_the_head() -> None:
    with worker_of("sync", "--limit-request-line", "0", "--limit-request-head", "200k") as worker:
        assert one(worker, "/several?" + "a" * 150_000)[1] == b"abc"
        assert one(worker, "/several?" + "a" * 300_000)[0].startswith(b"HTTP/1.1 414")
