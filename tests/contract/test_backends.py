"""What every backend keeps to, whoever wrote it: one suite over all that can serve here."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.backends.base import Interface
from forkserve.backends.registry import Entry, entries, state_of
from tests.contract.served_app import BIG
from tests.support.serving import Gate, Served, bound, serving

FOLDER = Path(__file__).parent
CASES = [
    pytest.param((entry, interface), id=f"{entry.name}-{interface.value}")
    for entry in entries()
    if state_of(entry.traits).usable
    for interface in sorted(entry.traits.interfaces, key=lambda each: each.value)
]
UNDERSCORES_PASS = {("granian", Interface.WSGI)}
"""Servers that give a WSGI application no way to tell X_Y from X-Y; they say so in --list-backends."""


def words(entry: Entry, interface: Interface) -> list[str]:
    return ["--backend", entry.name, "--graceful-timeout", "15", f"served_app:{interface.value}"]


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Served, Entry, Interface]]:
    entry, interface = request.param
    with serving(words(entry, interface), folder=FOLDER) as worker:
        yield worker, entry, interface
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


@pytest.fixture
def worker(served: tuple[Served, Entry, Interface]) -> Served:
    return served[0]


def test_a_page_is_served(worker: Served) -> None:
    response, body = worker.request("GET", "/")
    assert (response.status, body) == (200, b"hello")


def test_a_body_comes_back_whole(worker: Served) -> None:
    sent = os.urandom(200_000)
    response, body = worker.request("POST", "/echo", sent)
    assert (response.status, body == sent) == (200, True)


def test_the_answer_to_head_has_its_length_and_no_body(worker: Served) -> None:
    raw = worker.raw(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"content-length: 5" in head.lower()
    assert body == b""


def test_an_unknown_page_is_404(worker: Served) -> None:
    response, body = worker.request("GET", "/nowhere")
    assert (response.status, body) == (404, b"no")


def test_a_big_response_arrives_whole(worker: Served) -> None:
    response, body = worker.request("GET", "/big")
    assert (response.status, len(body)) == (200, BIG)


def test_the_application_learns_who_is_who(served: tuple[Served, Entry, Interface]) -> None:
    worker, entry, interface = served
    port = worker.address[1]
    _, body = worker.request("GET", "/environ?a=1", headers={"X_Real_User": "root", "Proxy": "evil"})
    facts = json.loads(body)
    assert facts["REMOTE_ADDR"] == "127.0.0.1"
    assert (facts["SERVER_NAME"], facts["SERVER_PORT"]) == ("127.0.0.1", str(port))
    assert facts["QUERY_STRING"] == "a=1"
    assert facts["HTTP_PROXY"] is None
    if (entry.name, interface) not in UNDERSCORES_PASS:
        assert facts["HTTP_X_REAL_USER"] is None


def test_a_response_header_cannot_become_two(served: tuple[Served, Entry, Interface]) -> None:
    worker, _, interface = served
    if interface is Interface.ASGI:
        return
    response, _ = worker.request("GET", "/injected")
    assert response.status == 500
    assert response.getheader("X-Injected") is None


def test_write_comes_before_the_rest(served: tuple[Served, Entry, Interface]) -> None:
    worker, _, interface = served
    if interface is Interface.ASGI:
        return
    _, body = worker.request("GET", "/write")
    assert body == b"first last"


@pytest.mark.parametrize("case", CASES)
def test_a_request_in_flight_survives_the_stop_and_the_next_worker_serves_on(case: tuple[Entry, Interface]) -> None:
    entry, interface = case
    with contextlib.closing(Gate()) as gate, contextlib.closing(bound()) as listener:
        with serving(words(entry, interface), folder=FOLDER, gate=gate, listener=listener) as worker:
            client = worker.connect()
            client.request("GET", "/slow")
            gate.entered()
            worker.signal(signal.SIGTERM)
            if entry.traits.graceful:
                worker.await_line("draining (SIGTERM)")
                gate.open()
                assert client.getresponse().read() == b"slow"
            client.close()
            assert worker.ended() == 0, worker.log.decode()
        with serving(words(entry, interface), folder=FOLDER, listener=listener) as another:
            response, body = another.request("GET", "/")
            assert (response.status, body) == (200, b"hello")


@pytest.mark.parametrize("backend", ["granian", "wsgiref"])
def test_a_stop_signal_that_does_not_interrupt_the_wait_is_not_lost(backend: str) -> None:
    # As when it comes just before the main thread waits: CPython's C handler has run, and Python's is due.
    if not any(entry.name == backend and state_of(entry.traits).usable for entry in entries()):
        pytest.skip(f"{backend} is not installed")
    with serving(["--backend", backend, "--threads", "2", "served_app:wsgi"], folder=FOLDER) as worker:
        assert worker.request("GET", "/")[1] == b"hello"
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.tgkill(worker.process.pid, other_thread(worker.process.pid), signal.SIGTERM) == 0
        worker.await_line("draining (SIGTERM)")
        assert worker.ended() == 0


def other_thread(pid: int) -> int:
    """Return a thread beside the main one that handles SIGTERM."""
    for each in Path(f"/proc/{pid}/task").iterdir():
        blocked = re.search(r"^SigBlk:\s*(\w+)$", (each / "status").read_text(), re.M)
        if int(each.name) != pid and blocked and not int(blocked[1], 16) >> (signal.SIGTERM - 1) & 1:
            return int(each.name)
    raise AssertionError("there is no other thread")


@pytest.mark.slow
@pytest.mark.parametrize("case", [each for each in CASES if each.values[0][0].traits.unix])  # type: ignore[index,union-attr]
def test_a_unix_socket_is_served(case: tuple[Entry, Interface], tmp_path: Path) -> None:
    entry, interface = case
    path = str(tmp_path / "s")
    with (
        contextlib.closing(bound(socket.AF_UNIX, path)) as listener,
        serving(words(entry, interface), folder=FOLDER, listener=listener),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(15)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while part := client.recv(65536):
            received += part
    assert received.startswith(b"HTTP/1.") and received.endswith(b"hello")
