"""The application's logging is the application's, and forkserve's own log does not depend on it."""

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
BACKENDS = ("sync", "threads", "gevent", "asgi")
each_backend = pytest.mark.parametrize("backend", BACKENDS)


@contextlib.contextmanager
def worker_of(backend: str, *words: str, **environ: str) -> Iterator[Served]:
    app = "logging_app:asgi" if backend in ("asgi", "uvicorn", "hypercorn") else "logging_app:app"
    lifespan = ["--lifespan", "off"] if backend == "asgi" else []
    with serving(["--backend", backend, *lifespan, *words, app], folder=FOLDER, environ=environ) as worker:
        yield worker
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0


@pytest.mark.parametrize("way", ["dict_config", "file_config", "disable", "record_factory"])
@pytest.mark.parametrize("late", [False, True])
def test_what_an_application_configures_does_not_silence_ours(way: str, late: bool) -> None:
    with worker_of("sync", LOGGING=way, **({"LATE": "1"} if late else {})) as worker:
        worker.await_line("serving logging_app:app")
        worker.request("GET", "/set_up")
        assert worker.request("GET", "/raises")[0].status == 500
        worker.await_line("ValueError: the cause")
        worker.await_line("raise ValueError(path.removeprefix")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert b"draining (SIGTERM)" in worker.log


@pytest.mark.parametrize("backend", [*BACKENDS[1:], "uvicorn", "hypercorn", "waitress"])
def test_tracebacks_are_seen_under_each_backend_after_dict_config(backend: str) -> None:
    if backend not in BACKENDS:
        pytest.importorskip(backend)
    with worker_of(backend, LOGGING="dict_config") as worker:
        assert worker.request("GET", "/raises")[0].status == 500
        worker.await_line("ValueError: the cause")


@each_backend
def test_basic_config_in_an_application_has_its_effect(backend: str) -> None:
    with worker_of(backend, LOGGING="basic") as worker:
        assert json.loads(worker.request("GET", "/log")[1]) == {"handlers": 0, "raiseExceptions": True}
        worker.await_line("SHOP INFO shop a line")
        worker.await_line("SHOP WARNING root of the root logger")
        worker.await_line("captured")
        worker.request("GET", "/raises")
        worker.await_line("ValueError: the cause")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    text = worker.log.decode()
    assert re.search(r"^SHOP WARNING py.warnings .*captured$", text, re.MULTILINE)
    # Ours went its own way: in our form, once.
    assert not re.search("^SHOP .*(serving|failed|draining)", text, re.MULTILINE)
    assert text.count("draining (SIGTERM)") == 1


def test_a_log_file_is_ours_alone(tmp_path: Path) -> None:
    place = tmp_path / "worker.log"
    with worker_of("sync", "--log-output", str(place), LOGGING="dict_config", LATE="1") as worker:
        worker.request("GET", "/set_up")  # closes every handler that exists
        worker.request("GET", "/raises/%C3%A4%ED%B2%80")
        worker.request("GET", "/log")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    text = place.read_text("utf-8")
    assert "of the root logger" not in text and "of the root logger" in worker.log.decode()
    assert "serving logging_app:app" in text
    assert r"ValueError: ä\udced\udcb2\udc80" in text
    assert "draining (SIGTERM)" in text


@each_backend
def test_no_control_character_of_an_exception_reaches_the_log(backend: str) -> None:
    """%1B[2J clears the reader's terminal, CR overwrites the line, LF forges one, %C2%9B is ESC [ in one character."""
    with worker_of(backend) as worker:
        worker.request("GET", "/raises/%1B[2J%0D%0A2026-01-01%20ERROR%20forged%08%7F%C2%9B31m%00")
        worker.await_line("in answer")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    text = worker.log.decode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    (line,) = [line for line in text.splitlines() if "failed: ValueError" in line]
    assert r"failed: ValueError: \x1b[2J\r\n2026-01-01 ERROR forged\x08\x7f\x9b31m\x00" in line
