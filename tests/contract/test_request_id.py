"""--request-id-header: an id that follows a request, under both interfaces."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Served, serving

FOLDER = Path(__file__).parent
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
APPLICATIONS = {"sync": "engine_app:app", "threads": "engine_app:app", "asgi": "asgi_app:app"}
each_backend = pytest.mark.parametrize("backend", APPLICATIONS)


@contextlib.contextmanager
def worker_of(backend: str, *words: str) -> Iterator[Served]:
    with serving(["--backend", backend, *words, APPLICATIONS[backend]], folder=FOLDER) as worker:
        yield worker
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.log.decode()


def seen(backend: str, body: bytes) -> object:
    """What the application was told, in its own and in the general way."""
    found = json.loads(body)
    if backend == "asgi":
        own = dict(found["headers"])["x-request-id"]
        general = found["extensions"]["forkserve.request_id"]["id"]
    else:
        own, general = found["HTTP_X_REQUEST_ID"], found["forkserve.request_id"]
    assert own == general
    return own


@each_backend
def test_a_good_id_is_passed_on_and_a_bad_one_is_replaced(backend: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["--request-id-header", "X-Request-ID", "--access-log", str(log), "--access-log-format", "%(i)s %(s)s"]
    ids = []
    with worker_of(backend, *words) as worker:
        for sent in ("good-1", 'b"ad 1', "a" * 200, None, None):
            headers = {} if sent is None else {"X-Request-ID": sent}
            response, body = worker.request("GET", "/show" if backend == "asgi" else "/facts", headers=headers)
            ids.append(response.headers["X-Request-ID"])
            assert seen(backend, body) == ids[-1]
    assert ids[0] == "good-1"
    assert all(re.fullmatch("[0-9a-f]{32}", made) for made in ids[1:])
    assert len(set(ids)) == 5
    assert log.read_text().splitlines() == [f"{each} 200" for each in ids]


@each_backend
def test_a_request_without_an_id_takes_that_of_its_trace(backend: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = ["--request-id-header", "X-Request-ID", "--access-log", str(log), "--access-log-format", "json"]
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    with worker_of(backend, *words) as worker:
        response, _ = worker.request("GET", "/", headers={"traceparent": parent})
        assert response.headers["X-Request-ID"] == TRACE
        worker.request("GET", "/", headers={"traceparent": parent, "X-Request-ID": "mine"})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["request_id"], line["trace_id"]) for line in lines] == [(TRACE, TRACE), ("mine", TRACE)]


@each_backend
def test_two_ids_are_none(backend: str) -> None:
    with worker_of(backend, "--request-id-header", "X-Request-ID") as worker:
        raw = worker.raw(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: a\r\nX-Request-ID: b\r\nConnection: close\r\n\r\n"
        )
    assert re.search(rb"\r\nX-Request-ID: [0-9a-f]{32}\r\n", raw)


@each_backend
def test_an_error_tells_its_id(backend: str) -> None:
    with worker_of(backend, "--request-id-header", "X-Request-ID") as worker:
        response, _ = worker.request(
            "GET", "/raises" if backend == "asgi" else "/raising", headers={"X-Request-ID": "abc"}
        )
        assert (response.status, response.headers["X-Request-ID"]) == (500, "abc")


@each_backend
def test_without_the_option_nothing_is_added(backend: str) -> None:
    with worker_of(backend) as worker:
        response, _ = worker.request("GET", "/", headers={"X-Request-ID": "abc"})
        assert "X-Request-ID" not in response.headers
