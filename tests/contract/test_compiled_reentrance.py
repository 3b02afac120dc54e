"""Python that runs within the compiled part, the application's own, harms nothing: the answers are those of Python.

The workers run with the debug hooks of the memory allocator (PYTHONMALLOC=debug), which overwrite what is freed, so
that a use after that fails at once.
"""

from __future__ import annotations

import contextlib
import re
import signal
import ssl
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from tests.contract.hostile_app import LONG
from tests.support.serving import PATIENCE, serving
from tests.support.tls import make_certificate

FOLDER = Path(__file__).parent
TIMES = 4
Answer = tuple[int, list[tuple[str, str]], bytes]


def answers(words: list[str], paths: list[str], *, pure: bool) -> list[Answer]:
    """Ask a worker for each path, several times, so that what can be remembered is."""
    environ = {"FORKSERVE_PURE": "1" if pure else "", "PYTHONMALLOC": "debug"}
    told: list[Answer] = []
    with serving(words, folder=FOLDER, environ=environ) as worker:
        with contextlib.closing(HTTPConnection(*worker.address, timeout=PATIENCE)) as conn:
            for path in paths:
                for _ in range(TIMES):
                    conn.request("GET", path)
                    response = conn.getresponse()
                    fields = [(name, value) for name, value in response.getheaders() if name != "Date"]
                    told.append((response.status, fields, response.read()))
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.log.decode()
        assert b"Traceback" not in worker.log, worker.log.decode()
    return told


@pytest.mark.parametrize(
    ("backend", "paths"),
    [
        ("sync", ["same", "emptied", "within", "odd_calls", "kept"]),
        ("threads", ["same", "forgetting", "same", "emptied", "within", "kept"]),
        ("gevent", ["same", "emptied", "within", "odd_calls", "kept"]),
    ],
)
def test_wsgi_headers_run_code_of_the_application(backend: str, paths: list[str]) -> None:
    words = ["--backend", backend, *(["--threads", "3"] if backend == "threads" else []), "hostile_app:wsgi"]
    given = [f"/{each}" for each in paths]
    assert answers(words, given, pure=False) == answers(words, given, pure=True)


def test_asgi_messages_change_while_they_are_read() -> None:
    words = ["--backend", "asgi", "--lifespan", "off", "hostile_app:asgi"]
    paths = ["/", "/status", "/headers", "/body", "/"]
    assert answers(words, paths, pure=False) == answers(words, paths, pure=True)


def test_another_thread_takes_away_what_is_sent(tmp_path: Path) -> None:
    # Only TLS hands over the interpreter's lock while it sends.
    cert, key = make_certificate(tmp_path)
    log = tmp_path / "access.log"
    words = ["--certfile", cert, "--keyfile", key, "--access-log", str(log), "--access-log-format", "%(h)s %(B)s"]
    environ = {"PYTHONMALLOC": "debug"}
    context = ssl.create_default_context(cafile=cert)
    with serving(
        ["--backend", "threads", "--threads", "4", *words, "hostile_app:wsgi"], folder=FOLDER, environ=environ
    ) as worker:

        def ask(number: int) -> int:
            """Return how many answers were whole; one whose result is empty in time is another answer."""
            whole = 0
            with contextlib.closing(HTTPSConnection(*worker.address, timeout=PATIENCE, context=context)) as conn:
                for turn in range(200):
                    conn.request("GET", f"/taken_away?{number}.{turn}")
                    whole += conn.getresponse().read() == b"7" * LONG
            return whole

        with ThreadPoolExecutor(4) as pool:
            whole = sum(pool.map(ask, range(4)))
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0, worker.log.decode()
    lines = log.read_text().splitlines()
    assert len(lines) == 800
    assert all(re.fullmatch(rf"(10\.\d\.\d+|-|127\.0\.0\.1)? ({LONG}|0)", line) for line in lines), lines
    assert whole > 0
