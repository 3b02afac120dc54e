"""A stop is a stop, whatever the application has installed, started or armed."""

from __future__ import annotations

import contextlib
import select
import signal
import time
from pathlib import Path

import pytest

from tests.support.serving import PATIENCE, Gate, Served, serving

COMMON = """\
import asyncio, os, select, signal, sys, threading

def gate():
    enter, leave = map(int, os.environ["GATE"].split(","))
    os.write(enter, b".")
    # A signal just before a system call does not interrupt it.
    while not select.select([leave], [], [], 0.05)[0]:
        pass
    os.read(leave, 1)

def handler(number, frame=None):
    os.write(2, b"theirs was called\\n")
    sys.exit(0)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        gate()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"one"]

async def answer(scope, receive, send):
    if scope["path"] == "/slow":
        await asyncio.to_thread(gate)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"one"})
"""
# Of another size, for bytecode is taken as fresh where second and size of the source are the same (importlib).
NEWER = COMMON.replace('b"one"', 'b"new"') + "\n# newer\n"
AT_IMPORT = COMMON + "\nsignal.signal(signal.SIGTERM, handler)\n"
CHAINED = (
    COMMON
    + """
def handler(number, frame):
    os.write(2, b"theirs was called\\n")
    earlier(number, frame)

earlier = signal.signal(signal.SIGTERM, handler)
"""
)
IGNORED = COMMON + "\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.write(2, b'theirs was called\\n')\n"
BLOCKED = (
    COMMON + "\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\nos.write(2, b'theirs was called\\n')\n"
)
TICKING = (
    COMMON
    + """
os.write(2, b"theirs was called\\n")
signal.signal(signal.SIGALRM, lambda number, frame: None)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
"""
)
LIFESPAN = (
    COMMON
    + """
async def asgi(scope, receive, send):
    if scope["type"] == "http":
        return await answer(scope, receive, send)
    await receive()
    INSTALL
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""
)
BY_SIGNAL = "signal.signal(signal.SIGTERM, handler)"
BY_LOOP = "asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os.write, 2, b'theirs was called\\n')"


def stop_with_a_request_under_way(folder: Path, words: list[str]) -> bytes:
    """Return the log of a worker that is told to end while it serves one."""
    with contextlib.closing(Gate()) as gate, serving(words, folder=folder, gate=gate) as worker:
        with contextlib.closing(worker.connect()) as client:
            client.request("GET", "/slow")
            gate.entered()
            worker.signal(signal.SIGTERM)
            worker.await_line("draining (SIGTERM)")
            gate.open()
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"one")
        assert worker.ended() == 0
    return worker.log


@pytest.mark.parametrize(
    "source", [AT_IMPORT, CHAINED, IGNORED, BLOCKED, TICKING], ids=["exits", "chained", "ignored", "blocked", "ticking"]
)
@pytest.mark.parametrize(
    "backend",
    ["sync", "threads", "gevent", "wsgiref", pytest.param("waitress", marks=pytest.mark.slow)],  # its loop turns rarely
)
def test_a_handler_that_the_application_installs_at_import_breaks_no_stop(
    tmp_path: Path, backend: str, source: str
) -> None:
    (tmp_path / "site_s.py").write_text(source)
    log = stop_with_a_request_under_way(tmp_path, ["-k", backend, "site_s:app"])
    assert log.count(b"theirs was called") == 1


@pytest.mark.parametrize("install", [BY_SIGNAL, BY_LOOP], ids=["signal", "loop"])
@pytest.mark.parametrize("words", [["asgi", "--loop", "asyncio"], ["asgi", "--loop", "uvloop"], ["uvicorn"]])
def test_a_handler_that_the_application_installs_in_its_lifespan_breaks_no_stop(
    tmp_path: Path, words: list[str], install: str
) -> None:
    (tmp_path / "site_s.py").write_text(LIFESPAN.replace("INSTALL", install))
    log = stop_with_a_request_under_way(tmp_path, ["-k", *words, "site_s:asgi"])
    assert log.count(b"theirs was called") == 1


TAKING = (
    COMMON
    + """
import faulthandler

def take(way):
    if way == "signal":
        signal.signal(signal.SIGTERM, handler)
    elif way == "ignored":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif way == "default":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    elif way == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    elif way == "faulthandler":
        faulthandler.register(signal.SIGTERM, chain=False)
    elif way == "wakeup":
        signal.set_wakeup_fd(-1)
    elif way in ("added", "removed"):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, os.write, 2, b"theirs was called\\n")
        if way == "removed":
            loop.remove_signal_handler(signal.SIGTERM)

one = app

def app(environ, start_response):
    take(environ.get("QUERY_STRING", ""))
    return one(environ, start_response)

async def asgi(scope, receive, send):
    take(scope["query_string"].decode())
    await answer(scope, receive, send)
"""
)
WSGI = ["signal", "ignored", "default", "blocked", "faulthandler", "wakeup"]
TAKEN = [
    *(("sync", way) for way in WSGI),
    *(("asgi", way) for way in [*WSGI, "added", "removed"]),
    *(("gevent", way) for way in ("signal", "faulthandler", "wakeup")),
    *(("asgi --loop uvloop", way) for way in ("signal", "faulthandler", "wakeup", "added", "removed")),
    ("threads", "blocked"),
    ("threads", "faulthandler"),
    *(
        pytest.param(backend, way, marks=pytest.mark.slow)
        for backend in ("gevent", "asgi --loop uvloop")
        for way in ("ignored", "default", "blocked")  # dispositions and masks, which no loop of these touches
    ),
]


@pytest.mark.parametrize(("backend", "way"), TAKEN)
def test_signals_that_a_request_takes_over_are_taken_back(tmp_path: Path, backend: str, way: str) -> None:
    (tmp_path / "site_s.py").write_text(TAKING)
    app = ["--lifespan", "off", "site_s:asgi"] if backend.startswith("asgi") else ["site_s:app"]
    words = ["-k", *backend.split(), "--keep-alive", "0.3", *app]
    with contextlib.closing(Gate()) as gate, serving(words, folder=tmp_path, gate=gate) as worker:
        with contextlib.closing(worker.connect()) as client:
            client.request("GET", f"/?{way}")
            assert client.getresponse().read() == b"one"
            # An idle connection is closed by the look that takes them back.
            assert client.sock.recv(1) == b""
        with contextlib.closing(worker.connect()) as client:
            client.request("GET", "/slow")
            gate.entered()
            worker.signal(signal.SIGTERM)
            worker.await_line("draining (SIGTERM)")
            gate.open()
            assert client.getresponse().read() == b"one"
        assert worker.ended() == 0
    assert worker.log.count(b"theirs was called") == (way in ("signal", "added"))


ADAPTED = [
    ("wsgiref", "ignored"),
    ("uvicorn", "signal"),
    ("hypercorn", "added"),
    ("bjoern", "faulthandler"),
    *(
        pytest.param("bjoern", way, marks=pytest.mark.slow)
        for way in ("signal", "ignored", "default", "blocked", "wakeup")
    ),
    *(
        pytest.param(backend, way, marks=pytest.mark.slow)
        for backend in ("gevent-pywsgi", "gunicorn-sync", "gunicorn-gevent", "gunicorn-asgi")
        for way in ("signal", "default", "blocked")
    ),
]


@pytest.mark.parametrize(("backend", "way"), ADAPTED)
def test_servers_of_others_take_signals_back_as_well(tmp_path: Path, backend: str, way: str) -> None:
    (tmp_path / "site_s.py").write_text(TAKING)
    is_asgi = backend in ("uvicorn", "hypercorn", "gunicorn-asgi")
    app = ["--lifespan", "off", "site_s:asgi"] if is_asgi else ["site_s:app"]
    with contextlib.closing(Gate()) as gate, serving(["-k", backend, *app], folder=tmp_path, gate=gate) as worker:
        assert worker.request("GET", f"/?{way}", headers={"Connection": "close"})[1] == b"one"
        with contextlib.closing(worker.connect()) as client:
            client.request("GET", "/slow", headers={"Connection": "close"})
            gate.entered()
            worker.signal(signal.SIGTERM)
            worker.await_line("draining (SIGTERM)")
            gate.open()
            assert client.getresponse().read() == b"one"
        assert worker.ended() == 0


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent", "asgi"])
def test_signals_are_taken_back_though_no_other_request_comes(tmp_path: Path, backend: str) -> None:
    (tmp_path / "site_s.py").write_text(TAKING)
    app = ["--lifespan", "off", "site_s:asgi"] if backend == "asgi" else ["site_s:app"]
    way = "blocked" if backend == "threads" else "ignored"
    with serving(["-k", backend, "--keep-alive", "0.3", *app], folder=tmp_path) as worker:
        assert worker.request("GET", f"/?{way}")[1] == b"one"
        deadline = time.monotonic() + PATIENCE
        while ignores(worker.process.pid, signal.SIGTERM):
            assert time.monotonic() < deadline
            select.select([], [], [], 0.02)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def ignores(pid: int, number: int) -> bool:
    """Tell whether a process ignores a signal (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("backend", ["sync", "threads", "gevent"])
def test_a_thread_of_the_application_does_not_outlive_the_graceful_timeout(tmp_path: Path, backend: str) -> None:
    start = "\nthreading.Thread(target=threading.Event().wait, name='lingering').start()\n"
    (tmp_path / "site_s.py").write_text(COMMON + start)
    with serving(["-k", backend, "--graceful-timeout", "1.5", "site_s:app"], folder=tmp_path) as worker:
        assert worker.request("GET", "/")[1] == b"one"
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 75
    assert b"thread 'lingering' has not ended within the graceful timeout of 1.5 s" in worker.log


def await_fresh(worker: Served) -> None:
    """Wait until it serves as a fresh process."""
    worker.await_line("draining (")
    worker.log = worker.log.partition(b"draining (")[2]
    worker.await_line("serving site_s")


ALARMED = (
    COMMON
    + """
def ignore(number, frame):
    pass

signal.signal(signal.SIGALRM, ignore)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
"""
)


@pytest.mark.parametrize(
    ("backend", "source"),
    [
        *(pytest.param(each, ALARMED, id=f"{each}-alarmed") for each in ("sync", "threads", "gevent", "asgi")),
        *(pytest.param(each, COMMON, id=f"{each}-plain") for each in ("sync", "asgi")),
        *(pytest.param(each, COMMON, id=f"{each}-plain", marks=pytest.mark.slow) for each in ("threads", "gevent")),
    ],
)
def test_hangup_goes_on_with_new_code_though_a_request_outlasts_the_grace(
    tmp_path: Path, backend: str, source: str
) -> None:
    (tmp_path / "site_s.py").write_text(source)
    words = ["-k", backend, "--timeout", "3", "--graceful-timeout", "0.4"]
    app = "site_s:answer" if backend == "asgi" else "site_s:app"
    with contextlib.closing(Gate()) as gate, serving([*words, app], folder=tmp_path, gate=gate) as worker:
        pid = worker.process.pid
        with contextlib.closing(worker.connect()) as client:
            client.request("GET", "/slow")
            gate.entered()
            (tmp_path / "site_s.py").write_text(NEWER)
            worker.signal(signal.SIGHUP)
            await_fresh(worker)
            # Longer than any timer of the earlier process.
            signal.sigtimedwait([signal.SIGUSR2], 0.5)
            assert worker.request("GET", "/")[1] == b"new"
        worker.signal(signal.SIGTERM)
        # 75 where its end takes longer than the graceful timeout
        assert worker.ended() in (0, 75)
        assert worker.process.pid == pid


def test_signals_that_come_while_the_process_executes_itself_anew_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "site_s.py").write_text(COMMON)
    with serving(["-k", "sync", "site_s:app"], folder=tmp_path) as worker:
        assert worker.request("GET", "/")[1] == b"one"
        worker.signal(signal.SIGHUP)
        worker.await_line("draining (SIGHUP)")
        # It executes itself about now, and neither of these has a handler then.
        worker.signal(signal.SIGHUP)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


CLEANED = """\
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    os.write(2, b"waiting\\n")
    try:
        await asyncio.Event().wait()
    finally:
        os.write(2, b"cleaned up\\n")
"""


@pytest.mark.parametrize("backend", ["asgi", "hypercorn"])
def test_a_reload_for_development_lets_requests_clean_up_before_its_end(tmp_path: Path, backend: str) -> None:
    (tmp_path / "site_s.py").write_text(CLEANED)
    words = ["-k", backend, "--reload", "--graceful-timeout", "60", "site_s:app"]
    with serving(words, folder=tmp_path) as worker, contextlib.closing(worker.connect()) as client:
        worker.await_line("watching")
        client.request("GET", "/")
        worker.await_line("waiting")
        (tmp_path / "site_s.py").write_text(CLEANED + "\n")
        worker.await_line("cleaned up")
        await_fresh(worker)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


@pytest.mark.parametrize(
    "backend",
    ["sync", pytest.param("threads", marks=pytest.mark.slow), pytest.param("gevent", marks=pytest.mark.slow)],
)
def test_a_reload_for_development_waits_three_seconds_at_most(tmp_path: Path, backend: str) -> None:
    (tmp_path / "site_s.py").write_text(COMMON)
    words = ["-k", backend, "--reload", "--graceful-timeout", "60", "site_s:app"]
    with contextlib.closing(Gate()) as gate, serving(words, folder=tmp_path, gate=gate) as worker:
        with contextlib.closing(worker.connect()) as client:
            worker.await_line("watching")
            client.request("GET", "/slow")
            gate.entered()
            (tmp_path / "site_s.py").write_text(NEWER)
            await_fresh(worker)
            assert worker.request("GET", "/")[1] == b"new"
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
