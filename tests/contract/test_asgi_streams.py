"""Responses of an ASGI application that thinks, waits, or does not listen: what its client sees, and when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from tests.support.serving import PATIENCE, Served, serving

FOLDER = Path(__file__).parent
IMPLEMENTATIONS = ({}, {"FORKSERVE_PURE": "1"})


@contextlib.contextmanager
def worker_of(*words: str, status: int | None = 0, environ: dict[str, str] | None = None) -> Iterator[Served]:
    with serving(["--backend", "asgi", *words, "asgi_streams:app"], folder=FOLDER, environ=environ) as worker:
        yield worker
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
        assert status is None or worker.ended() == status, worker.log.decode()
        assert b"Traceback" not in worker.log, worker.log.decode()


@contextlib.contextmanager
def asked(worker: Served, path: str, method: str = "GET", more: str = "") -> Iterator[socket.socket]:
    with socket.create_connection(worker.address, PATIENCE) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode())
        yield sock


def until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(1)
        assert part, data
        data += part
    return data


def body_of(worker: Served, path: str) -> bytes:
    return worker.request("GET", path)[1]


@pytest.mark.parametrize("environ", IMPLEMENTATIONS)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_head_goes_out_when_the_application_waits_before_its_body(loop: str, environ: dict[str, str]) -> None:
    paths = ("/thinks", "/thinks_twice", "/thinks_in_a_task")
    with worker_of("--loop", loop, environ=environ) as worker, contextlib.ExitStack() as stack:
        for path in paths * 2:
            sock = stack.enter_context(asked(worker, path))
            head = until(sock, b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\nx-app: yes\r\n")
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            body_of(worker, "/go")
            assert until(sock, b"0\r\n\r\n") == b"7\r\nthought\r\n0\r\n\r\n"


def test_a_head_that_goes_first_keeps_its_length() -> None:
    with worker_of() as worker, asked(worker, "/thinks_of_a_length") as sock:
        head = until(sock, b"\r\n\r\n")
        assert b"\r\ncontent-length: 7\r\n" in head
        assert b"chunked" not in head
        body_of(worker, "/go")
        assert until(sock, b"thought") == b"thought"


def test_the_head_of_a_denied_handshake_goes_first_too() -> None:
    more = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n"
    )
    with worker_of() as worker, asked(worker, "/denies", more=more) as sock:
        assert until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 403 Forbidden\r\nx-app: yes\r\n")
        body_of(worker, "/go")
        assert sock.makefile("rb").read() == b"7\r\nthought\r\n0\r\n\r\n"


def test_an_application_that_has_begun_to_answer_may_take_longer_than_the_timeout() -> None:
    with worker_of("--timeout", "0.3") as worker:
        assert body_of(worker, "/thinks_long") == b"thought"


def test_a_head_that_was_given_is_never_replaced_by_a_504() -> None:
    with worker_of("--timeout", "0.5") as worker, asked(worker, "/blocks") as sock:
        answer = sock.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nx-app: yes\r\n")
        # It is not whole, and the client can tell.
        assert answer.endswith(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in answer


def test_an_application_that_raises_between_head_and_body_is_a_500() -> None:
    with worker_of(status=0) as worker:
        assert worker.request("GET", "/raises")[0].status == 500
        worker.await_line("KeyError: 'the secret'\n")
        worker.log = b""


@pytest.mark.parametrize("first", [b"begun", b"0\r\n\r\n"])
def test_a_worker_does_not_wait_for_streams_whose_clients_have_gone(first: bytes) -> None:
    """`--graceful-timeout` is longer than the patience of the test."""
    with worker_of("--graceful-timeout", "60") as worker:
        for _ in range(5):
            with asked(worker, "/listens_to_nobody") as sock:
                until(sock, b"begun")
                if first != b"begun":
                    # Gone while draining.
                    worker.signal(signal.SIGTERM)
                    worker.await_line("draining")
                    break
        worker.signal(signal.SIGTERM)
        for _ in range(5 if first == b"begun" else 1):
            worker.await_line("cleaned up")
            worker.log = worker.log.partition(b"cleaned up")[2]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/receives_for_ever"),
        ("GET", "/sends_for_ever"),
        ("GET", "/sends_nothing_for_ever"),
        ("HEAD", "/sends_for_ever"),
    ],
)
def test_an_application_that_heeds_nothing_does_not_hold_the_loop(method: str, path: str) -> None:
    with worker_of("--graceful-timeout", "0.5", status=None) as worker:
        with asked(worker, path, method) as sock:
            worker.await_line("begun")
            if method == "HEAD" or "nothing" in path:
                assert body_of(worker, "/hello") == b"hello"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        for _ in range(20):
            assert body_of(worker, "/hello") == b"hello"
        worker.signal(signal.SIGTERM)
        # Cancelled at the end, or at once if it could not know that its client had gone.
        assert worker.ended() in (0, 75)


def test_a_websocket_application_that_heeds_nothing_does_not_hold_the_loop() -> None:
    with worker_of("--graceful-timeout", "0.5", status=75) as worker:
        host, port = worker.address
        with connect(f"ws://{host}:{port}/receives_for_ever", open_timeout=PATIENCE):
            worker.await_line("begun")
        for _ in range(20):
            assert body_of(worker, "/hello") == b"hello"


def test_sending_after_ones_own_close_raises_a_subclass_of_oserror_and_is_no_error_in_the_log() -> None:
    with worker_of() as worker:
        host, port = worker.address
        with connect(f"ws://{host}:{port}/", open_timeout=PATIENCE) as ws, pytest.raises(ConnectionClosedOK):
            ws.recv(PATIENCE)
        worker.await_line("after close: True")
    assert b"ERROR" not in worker.log


def test_a_path_whose_size_says_nothing_is_read_to_its_end(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with worker_of() as worker:
        for path in ("/proc/version", "/proc/cpuinfo", str(empty), "/dev/null", __file__):
            assert body_of(worker, f"/path?{path}")[:20] == Path(path).read_bytes()[:20]
        assert body_of(worker, "/pipe") == b"by pipe"
    assert b"ERROR" not in worker.log


def test_a_named_pipe_is_sent_as_it_is_written_and_holds_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with worker_of() as worker:
        with asked(worker, f"/path?{fifo}") as sock:
            until(sock, b"\r\n\r\n")
            assert body_of(worker, "/hello") == b"hello"
            with fifo.open("wb", buffering=0) as writer:
                writer.write(b"one")
                assert until(sock, b"one\r\n") == b"3\r\none\r\n"
                writer.write(b"two")
                assert until(sock, b"two\r\n") == b"3\r\ntwo\r\n"
            assert until(sock, b"0\r\n\r\n") == b"0\r\n\r\n"
        with asked(worker, f"/path?{fifo}") as sock:
            until(sock, b"\r\n\r\n")
    # The second client has gone while nobody wrote.
    assert b"ERROR" not in worker.log


def test_parts_of_a_file_without_an_offset_follow_one_another(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with worker_of() as worker:
        assert body_of(worker, f"/steps?{file}") == b"01" + b"8" + b"23" + b"45" + b"89" + b"Linux "


@pytest.mark.parametrize(("fault", "word"), [("cancelled", "CancelledError"), ("raises", "KeyError: 'the secret'")])
def test_an_application_that_raises_in_startup_is_told_in_the_log(fault: str, word: str) -> None:
    with worker_of(environ={"FAULT": fault}) as worker:
        assert body_of(worker, "/hello") == b"hello"
        worker.await_line("the application raised in its lifespan's startup")
        worker.await_line(word)
        worker.log = b""
    with serving(["--lifespan", "on", "asgi_streams:app"], folder=FOLDER, environ={"FAULT": fault}) as worker:
        assert worker.ended() == 3
        assert f"the application's lifespan failed to start: {fault_name(word)}" in worker.log.decode()


def fault_name(word: str) -> str:
    return word.partition(":")[0]


def test_a_shutdown_that_takes_longer_than_the_graceful_timeout_is_cancelled_with_one_line() -> None:
    # it is cancelled a quarter of this, and at most a second, before the worker is ended by force
    with worker_of("--graceful-timeout", "4", status=75, environ={"FAULT": "slow"}) as worker:
        assert body_of(worker, "/hello") == b"hello"
        worker.signal(signal.SIGTERM)
        worker.await_line("cleaned up")
    assert b"the application's lifespan.shutdown takes longer than the graceful timeout" in worker.log
    assert b"Traceback" not in worker.log
    assert b"requests" not in worker.log
