"""TLS where threads share a connection: the loop reads and closes while a thread writes."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.tls_app import own
from tests.support.serving import PATIENCE, Served, bound, serving
from tests.support.tls import make_certificate, update_key

FOLDER = Path(__file__).parent
CLIENTS = 6

each_way = pytest.mark.parametrize("pure", [False, True], ids=["compiled", "pure"])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def worker_of(certificate: tuple[str, str], *words: str, pure: bool, send_buffer: int = 0) -> Iterator[Served]:
    """Run a worker with TLS; its connections have so small a send buffer, which they inherit (tcp(7))."""
    cert, key = certificate
    options = ["--certfile", cert, "--keyfile", key, *words, "tls_app:wsgi"]
    with bound() as listener:
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        environ = {"FORKSERVE_PURE": "1" if pure else ""}
        with serving(options, folder=FOLDER, environ=environ, listener=listener) as worker:
            yield worker
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0, worker.log.decode()
            assert b"Traceback" not in worker.log, worker.log.decode()


@contextlib.contextmanager
def client_of(worker: Served, cert: str) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=cert)
    with (
        socket.create_connection(worker.address, PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        yield sock


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@each_way
def test_keys_are_updated_while_a_thread_writes(certificate: tuple[str, str], pure: bool) -> None:
    with worker_of(certificate, "--backend", "threads", "--threads", "4", pure=pure) as worker:

        def update(_: int) -> int:
            with client_of(worker, certificate[0]) as sock:
                assert sock.version() == "TLSv1.3"
                sock.sendall(get("/endless"))
                received = 0
                for _ in range(2000):
                    received += len(sock.recv(65536))
                    update_key(sock)
                return received

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(update, range(4)))
        assert answers_own(worker, certificate[0], "alive")


@each_way
def test_a_child_of_the_application_ends_while_others_are_written_to(certificate: tuple[str, str], pure: bool) -> None:
    words = ["--backend", "threads", "--threads", "4"]
    with worker_of(certificate, *words, pure=pure) as worker, contextlib.ExitStack() as streams:
        clients = [streams.enter_context(client_of(worker, certificate[0])) for _ in range(3)]
        for each in clients:
            each.sendall(get("/endless"))
            assert each.recv(10)

        def read(sock: ssl.SSLSocket) -> None:
            with contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass

        with ThreadPoolExecutor(3) as pool, client_of(worker, certificate[0]) as sock:
            pool.map(read, clients)
            for _ in range(60):
                sock.sendall(get("/fork"))
                response = http.client.HTTPResponse(sock)
                response.begin()
                assert response.read() == b"0"
            for each in clients:
                socket.socket.shutdown(each, socket.SHUT_RDWR)


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent"])
def test_the_end_is_told_from_a_cut(certificate: tuple[str, str], backend: str) -> None:
    head = b"GET /own/a/5 HTTP/1.%d\r\nHost: a\r\n%b\r\n"
    with worker_of(certificate, "--backend", backend, "--keep-alive", "0.3", pure=False) as worker:
        for request in (head % (1, b"Connection: close\r\n"), head % (0, b""), head % (1, b""), b"refused\r\n\r\n"):
            with client_of(worker, certificate[0]) as sock:
                sock.suppress_ragged_eofs = False
                sock.sendall(request)
                received = b""
                while part := sock.recv(65536):  # ssl.SSLEOFError for a cut
                    received += part
                assert received.startswith(b"HTTP/1.1 ")
        with client_of(worker, certificate[0]) as sock:
            sock.sendall(head % (1, b""))
            assert sock.recv(65536)
            sock.unwrap()  # ssl.SSLEOFError where nobody answers


@pytest.mark.parametrize("backend", ["threads", "gevent"])
def test_a_client_that_says_good_bye_during_its_request_is_answered_in_kind(
    certificate: tuple[str, str], backend: str
) -> None:
    with worker_of(certificate, "--backend", backend, pure=False) as worker, client_of(worker, certificate[0]) as sock:
        sock.suppress_ragged_eofs = False
        sock.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            sock.unwrap()  # what it sends has gone; what it waits for has not come
        sock.settimeout(PATIENCE)
        received = b""
        with pytest.raises(ssl.SSLZeroReturnError):  # ssl.SSLEOFError for a cut
            while True:
                received += sock.recv(65536)
        assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent"])
def test_a_handshake_goes_on_that_the_send_buffer_does_not_take(certificate: tuple[str, str], backend: str) -> None:
    # A chain of certificates that is larger than what the kernel keeps: the server has to wait until it can write.
    cert, key = certificate
    chain = Path(cert).with_name("chain.pem")
    chain.write_text(Path(cert).read_text() * 100)
    context = ssl.create_default_context(cafile=cert)
    with (
        worker_of((str(chain), key), "--backend", backend, pure=False, send_buffer=4096) as worker,
        socket.socket() as plain,
    ):
        plain.settimeout(PATIENCE)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(worker.address)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            sock.sendall(get("/own/mark/100"))
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert response.read() == own("mark", "100")[0]


def answers_own(worker: Served, cert: str, mark: str) -> bool:
    with client_of(worker, cert) as sock:
        sock.sendall(get(f"/own/{mark}/100"))
        response = http.client.HTTPResponse(sock)
        response.begin()
        return response.read() == own(mark, "100")[0]


@each_way
@pytest.mark.parametrize("backend", ["threads", "sync"])
def test_an_answer_reaches_the_client_that_asked(certificate: tuple[str, str], backend: str, pure: bool) -> None:
    threads = ["--threads", "4"] if backend == "threads" else []
    with worker_of(certificate, "--backend", backend, *threads, pure=pure, send_buffer=4096) as worker:

        def ask(number: int) -> list[str]:
            """Return what was wrong with each answer to a pipeline."""
            asked = [(f"{number}-{turn}.", str(3000 + 1777 * (turn % 30))) for turn in range(60)]
            with client_of(worker, certificate[0]) as sock, sock.makefile("rb") as file:
                sock.sendall(b"".join(get(f"/own/{mark}/{size}") for mark, size in asked))
                wrong = []
                for mark, size in asked:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        head += file.readline(1000) or b"end\r\n\r\n"
                    body = file.read(int(size))
                    if not head.startswith(b"HTTP/1.1 200 ") or body != own(mark, size)[0]:
                        wrong.append(f"{mark}: {head[:60]!r} {body[:20]!r} {body[-20:]!r}")
                        break
                return wrong

        with ThreadPoolExecutor(CLIENTS) as pool:
            wrong = [each for answers in pool.map(ask, range(CLIENTS)) for each in answers]
        assert not wrong
