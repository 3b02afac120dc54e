"""`--parser`: h11 comes to the same verdicts as the compiled parsers, and serves where these cannot be imported."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from forkserve.serving.native import PURE
from tests.contract.test_engine import Client
from tests.support.http_corpus import cases
from tests.support.serving import PATIENCE, Served, run_worker, serving

FOLDER = Path(__file__).parent
APPS = {"sync": "forkserve.testing.application:wsgi", "asgi": "forkserve.testing.application:asgi"}
IMPORTED = "parser_app:imported"
each_backend = pytest.mark.parametrize("backend", APPS)
where_compiled_code_may_run = pytest.mark.skipif(PURE, reason="FORKSERVE_PURE forbids compiled parsers")


@contextlib.contextmanager
def worker_of(*words: str, environ: Mapping[str, str] | None = None) -> Iterator[Served]:
    with serving(list(words), folder=FOLDER, environ=environ or {}) as worker:
        yield worker


@pytest.fixture
def without_httptools(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that cannot import httptools, as where it was never built."""
    (tmp_path / "httptools.py").write_text("raise ImportError('not built here')\n")
    return {"PYTHONPATH": str(tmp_path), "FORKSERVE_PURE": ""}


@pytest.mark.timeout(120)
@each_backend
def test_the_corpus_comes_to_the_same_by_h11_over_sockets(backend: str) -> None:
    with worker_of("--backend", backend, "--parser", "h11", APPS[backend]) as worker:
        for case in cases():
            if case.incomplete:
                continue
            with Client(worker) as client:
                client.send(case.raw)
                is_websocket = False
                for fact in case.served:
                    method = str(fact.get("method", "HEAD" if case.raw.startswith(b"HEAD") else "GET"))
                    head, body = client.response(method)
                    assert int(head[9:12]) < 400, case
                    is_websocket = int(head[9:12]) == 101
                    if "body" in fact and body:
                        assert json.loads(body)["body"] == fact["body"], case
                if case.refusal is not None:
                    assert client.rest().startswith(b"HTTP/1.1 %d " % case.refusal), case
                if is_websocket:  # a close frame may have come already
                    assert not client.buffer.startswith(b"HTTP/"), case
                else:
                    assert client.buffer == b"" or case.refusal is not None, case


@each_backend
def test_both_parsers_hand_the_same_fields_to_the_application(backend: str) -> None:
    lines = ("X-A: 1", "x-a: 2", "Cookie: a=b", "Cookie: c=d", "X_Y: dropped", "Proxy: dropped", "Via: \xe9  ")
    fields = "".join(f"{line}\r\n" for line in lines)
    raw = f"GET /%61?b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n".encode("latin-1")
    found = set()
    for words in (("--parser", "h11"), ("--parser", "auto")):
        with worker_of("--backend", backend, *words, APPS[backend]) as worker:
            found.add(worker.raw(raw).partition(b"\r\n\r\n")[2])
    (body,) = found
    assert b"dropped" not in body


@each_backend
@pytest.mark.parametrize("how", ["h11", "pure", "absent"])
def test_no_compiled_parser_is_imported_where_h11_serves(
    backend: str, how: str, without_httptools: dict[str, str]
) -> None:
    environ = {"h11": {}, "pure": {"FORKSERVE_PURE": "1"}, "absent": without_httptools}[how]
    words = ["--parser", "h11"] if how == "h11" else []
    attribute = f"{IMPORTED}_{'asgi' if backend == 'asgi' else 'wsgi'}"
    with worker_of("--backend", backend, *words, attribute, environ=environ) as worker:
        imported = json.loads(worker.request("GET", "/")[1])
    assert "h11" in imported
    assert "httptools" not in imported
    assert ("forkserve.serving.native._hot" in imported) <= (how != "pure")


@where_compiled_code_may_run
def test_auto_takes_the_compiled_parser_where_there_is_one() -> None:
    with worker_of("--backend", "sync", f"{IMPORTED}_wsgi") as worker:
        imported = json.loads(worker.request("GET", "/")[1])
    assert "httptools" in imported
    assert "h11" not in imported


@each_backend
@pytest.mark.parametrize("how", ["pure", "absent"])
def test_c_is_refused_where_it_cannot_be_had(backend: str, how: str, without_httptools: dict[str, str]) -> None:
    environ = without_httptools if how == "absent" else {"FORKSERVE_PURE": "1"}
    words = ["--bind", "127.0.0.1:0", "--backend", backend, "--parser", "c", APPS[backend]]
    for check in ([], ["--check"]):
        outcome = run_worker(*check, *words, folder=FOLDER, environ=environ)
        assert outcome.status == 78
        (line,) = (each for each in outcome.stderr.splitlines() if "--parser c cannot be used here" in each)
        assert ("FORKSERVE_PURE is set" if how == "pure" else "httptools cannot be imported (not built here)") in line


def test_a_parser_that_is_unknown_is_a_mistake_of_usage() -> None:
    outcome = run_worker("--parser", "llhttp", "served_app:wsgi", folder=FOLDER)
    assert outcome.status == 2
    assert "--parser: expected auto, c or h11" in outcome.stderr


def test_the_list_of_backends_says_which_parser_it_is(without_httptools: dict[str, str]) -> None:
    for environ in ({"FORKSERVE_PURE": "1"}, without_httptools):
        outcome = run_worker("--list-backends", folder=FOLDER, environ=environ)
        assert "Requests are parsed by h11" in " ".join(outcome.stdout.split())
    if not PURE:
        outcome = run_worker("--list-backends", folder=FOLDER)
        assert "Requests are parsed by compiled code" in " ".join(outcome.stdout.split())


def test_a_slow_head_is_refused_by_h11_as_by_others() -> None:
    with worker_of("--backend", "sync", "--parser", "h11", APPS["sync"]) as worker, Client(worker) as client:
        client.sock.settimeout(PATIENCE)
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX : y":
            with contextlib.suppress(OSError):
                client.send(bytes([byte]))
        client.send(b"\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")
