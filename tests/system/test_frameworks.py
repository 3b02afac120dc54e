"""Well-known frameworks, unchanged, on the backends: each one serves the same routes, and one suite asks all of them.

The applications are in `apps/`. Each framework runs on one backend by default, on all that fit with `make test-all`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from forkserve.backends.registry import find, state_of
from tests.support.serving import Served, serving

FOLDER = Path(__file__).parent / "apps"
WSGI = {
    "bottle": ("bottle_app:app", "gevent"),
    "django": ("django_app:wsgi", "sync"),
    "falcon": ("falcon_app:app", "sync"),
    "flask": ("flask_app:app", "threads"),
}
"""Framework -> application and the backend on which it always runs."""
ASGI = {
    "django": "django_app:asgi",
    "fastapi": "fastapi_app:app",
    "litestar": "litestar_app:app",
    "quart": "quart_app:app",
    "starlette": "starlette_app:app",
}
SOCKETS = {"fastapi", "litestar", "quart", "starlette"}
UPLOAD = os.urandom(3_000_000)


def _cases() -> Iterator[object]:
    for framework, (target, usual) in WSGI.items():
        for backend in ("sync", "threads", "gevent"):
            marks = [] if backend == usual else [pytest.mark.slow]
            yield pytest.param((framework, target, backend), id=f"{framework}-{backend}", marks=marks)
    for framework, target in ASGI.items():
        for backend in ("asgi", "asgi-uvloop"):
            marks = [pytest.mark.slow] if backend != "asgi" else []
            yield pytest.param((framework, target, backend), id=f"{framework}-{backend}", marks=marks)


@pytest.fixture(scope="module", params=_cases())
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, Served]]:
    framework, target, backend = request.param
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    backend, _, loop = backend.partition("-")
    if not state_of(find(backend).traits).usable or (loop and importlib.util.find_spec(loop) is None):
        pytest.skip(f"backend {request.param[2]} cannot serve here: {state_of(find(backend).traits).reason or loop}")
    words = ["--backend", backend, *(["--threads", "4"] if backend == "threads" else [])]
    words += ["--loop", loop or "asyncio"] if backend == "asgi" else []
    with serving([*words, target], folder=FOLDER, environ={"PYTHONDONTWRITEBYTECODE": "1"}) as worker:
        worker.await_line("serving")  # a stop before it listens to signals would end it as any other program
        yield target.partition("_")[0], worker
        worker.signal(signal.SIGTERM)
        # Ends only when every descendant has closed stderr, so nothing has outlived the worker.
        assert worker.ended() == 0, worker.log.decode()
        log = worker.log.decode()
        assert "Traceback" not in log and " ERROR " not in log, log


@pytest.fixture
def client(served: tuple[str, Served]) -> Iterator[httpx.Client]:
    host, port = served[1].address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=20, trust_env=False) as client:
        yield client


def test_json_goes_both_ways(client: httpx.Client) -> None:
    answer = client.get("/json", params={"name": "Zoë & Co"})
    assert answer.json() == {"name": "Zoë & Co", "address": "127.0.0.1"}
    assert client.post("/json", json={"numbers": list(range(1000))}).json() == {"sum": 499500}


def test_a_form_arrives(client: httpx.Client) -> None:
    fields = {"name": "ä=b&c", "text": "x" * 100_000}
    assert client.post("/form", data=fields).json() == fields


def test_a_file_arrives_whole(client: httpx.Client) -> None:
    answer = client.post("/upload", files={"file": ("data.bin", UPLOAD, "application/octet-stream")})
    digest = hashlib.sha256(UPLOAD).hexdigest()
    assert answer.json() == {"name": "data.bin", "size": len(UPLOAD), "sha256": digest}


def test_a_file_without_a_length_arrives_whole(served: tuple[str, Served], client: httpx.Client) -> None:
    if served[0] == "django" and client.get("/json", params={"name": "interface"}).headers["X-Interface"] == "asgi":
        return  # Django's multipart parser wants CONTENT_LENGTH, which ASGI cannot give for a body that still comes.
    boundary = "limit"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="c.bin"\r\n\r\n'.encode()
    whole = head + UPLOAD[:500_000] + f"\r\n--{boundary}--\r\n".encode()
    pieces = (whole[at : at + 70_000] for at in range(0, len(whole), 70_000))
    answer = client.post(
        "/upload", content=pieces, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(UPLOAD[:500_000]).hexdigest()


def test_a_stream_comes_complete_and_the_connection_is_kept(client: httpx.Client) -> None:
    expected = "".join(f"line {number}\n" for number in range(100))
    for _ in range(3):
        with client.stream("GET", "/stream") as answer:
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert "".join(answer.iter_text()) == expected


def test_cookies_and_headers_come_one_by_one(client: httpx.Client) -> None:
    answer = client.get("/cookies", headers={"Cookie": "a=1; b=2", "X-Sent": "sent"})
    assert answer.json() == {"a": "1", "b": "2"}
    cookies = answer.headers.get_list("Set-Cookie")
    assert [each.partition(";")[0] for each in cookies] == ["first=1", "second=2"]
    assert answer.headers["X-Seen"] == "sent"


def test_head_has_the_length_of_get_and_no_body(served: tuple[str, Served]) -> None:
    framework, worker = served
    raw = worker.raw(b"HEAD /json?name=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head, end, body = raw.partition(b"\r\n\r\n")
    assert (end, body) == (b"\r\n\r\n", b"")
    # Some have a route for GET alone, and say so.
    assert head.startswith(b"HTTP/1.1 405 " if framework in ("falcon", "fastapi", "litestar") else b"HTTP/1.1 200 ")


def test_an_unknown_page_is_the_frameworks_own_404(client: httpx.Client) -> None:
    assert client.get("/nowhere").status_code == 404


def test_a_websocket_echoes(served: tuple[str, Served]) -> None:
    framework, worker = served
    if framework not in SOCKETS:
        return
    connect = pytest.importorskip("websockets.sync.client").connect
    host, port = worker.address
    with connect(f"ws://{host}:{port}/ws", subprotocols=["echo"], open_timeout=20, proxy=None) as socket:
        assert socket.subprotocol == "echo"
        for text in ("one", "z" * 100_000, json.dumps({"ü": 1})):
            socket.send(text)
            assert socket.recv(20) == f"echo {text}"
