"""--timeout limits silence, reaches the application only when its time is over, and replaces what cannot be ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_engine import one
from tests.support.serving import Gate, Served, serving

FOLDER = Path(__file__).parent
WSGI = ("sync", "threads", "gevent")
OWN = (*WSGI, "asgi")


def compiled_and_pure(*backends: str, daily: Container[str]) -> list[Any]:
    """Return each backend with the compiled part and without it; the latter is slow but for those of every day."""
    pure = [pytest.param(each, True, marks=() if each in daily else pytest.mark.slow) for each in backends]
    return [*((each, False) for each in backends), *pure]


@contextlib.contextmanager
def worker_of(
    backend: str, *words: str, app: str = "strict", pure: bool = False, gate: Gate | None = None
) -> Iterator[Served]:
    threads = ["--threads", "4"] if backend == "threads" else []
    target = f"stuck_app:{'asgi' if backend == 'asgi' else app}"
    environ = {"FORKSERVE_PURE": "1" if pure else ""}
    line = ["--backend", backend, *threads, *words, target]
    with serving(line, folder=FOLDER, environ=environ, gate=gate) as worker:
        yield worker
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0


@pytest.mark.parametrize(("backend", "pure"), compiled_and_pure(*WSGI, daily=("sync",)))
def test_a_response_that_goes_on_is_not_cut_and_a_silent_one_is(backend: str, pure: bool) -> None:
    with worker_of(backend, "--timeout", "0.6", app="app", pure=pure) as worker:
        assert one(worker, "/ticks")[1].count(b"tick,") == 8
        assert b"too long" not in worker.log
        assert b"0\r\n\r\n" not in one(worker, "/silence")[1]
        worker.await_line("takes too long")
        worker.await_line("in silence")


@pytest.mark.parametrize("backend", WSGI)
def test_an_application_that_yields_nothing_goes_on_but_not_for_ever(backend: str) -> None:
    with worker_of(backend, "--timeout", "0.6", app="app") as worker:
        assert b"came" in one(worker, "/waits")[1]
        assert b"too long" not in worker.log
    with worker_of(backend, "--timeout", "0.1", app="app") as worker:
        assert one(worker, "/nothing")[0].startswith(b"HTTP/1.1 504")
        worker.await_line("in nothing")


@pytest.mark.parametrize(("backend", "pure"), compiled_and_pure(*OWN, daily=("sync", "asgi")))
def test_no_system_call_of_the_application_is_cut_short_before_its_time(backend: str, pure: bool) -> None:
    with worker_of(backend, "--timeout", "1.5", pure=pure) as worker:
        for _ in range(2):
            assert float(one(worker, "/elapsed")[1]) >= 0.7


@pytest.mark.parametrize("path", ["/sleeps", "/spins"])
@pytest.mark.parametrize("backend", ["sync", "gevent", "asgi"])
def test_what_keeps_the_worker_is_interrupted_and_the_worker_serves_on(backend: str, path: str) -> None:
    with worker_of(backend, "--timeout", "0.5") as worker:
        assert one(worker, path)[0].startswith(b"HTTP/1.1 504")
        worker.await_line("takes too long")
        worker.await_line(f"in {path[1:]}")
        assert one(worker, "/pid")[1] == str(worker.process.pid).encode()


@pytest.mark.parametrize("backend", ["sync", "gevent", "asgi"])
def test_what_cannot_be_interrupted_ends_the_worker_with_all_stacks_in_the_log(backend: str) -> None:
    with worker_of(backend, "--timeout", "0.3") as worker:
        assert worker.raw(b"GET /deaf HTTP/1.1\r\nHost: a\r\n\r\n") == b""
        assert worker.ended() == 75
    assert b"does not come back from the application" in worker.log
    assert b"in deaf" in worker.log


def test_a_thread_that_cannot_be_interrupted_has_its_worker_replaced() -> None:
    with worker_of("threads", "--timeout", "0.3") as worker:
        assert one(worker, "/deaf")[0].startswith(b"HTTP/1.1 504")
        worker.await_line("draining (a request is stuck)")
        assert worker.ended() == 0
    assert b"is ignored" not in worker.log
    assert b"it is here:" in worker.log
    assert b"in deaf" in worker.log


@pytest.mark.parametrize("backend", OWN)
def test_a_process_that_was_stopped_is_not_late(backend: str) -> None:
    """For each backend a request is under way while the process does not run."""
    with (
        contextlib.closing(Gate()) as gate,
        worker_of(backend, "--timeout", "1.0", gate=gate) as worker,
        contextlib.closing(worker.connect()) as client,
    ):
        client.request("GET", "/stopped")
        gate.entered()
        worker.signal(signal.SIGSTOP)
        # Nothing else tells that time has passed for a process that does not run.
        signal.sigtimedwait([signal.SIGUSR2], 1.5)
        worker.signal(signal.SIGCONT)
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"went on")
    assert b"too long" not in worker.log


@pytest.mark.parametrize("backend", ["sync", "gevent", "asgi"])
def test_the_thread_that_watches_does_not_wake_for_each_request(backend: str) -> None:
    requests = 200
    with worker_of(backend, "--timeout", "30") as worker, contextlib.closing(worker.connect()) as client:
        for _ in range(requests):
            client.request("GET", "/pid")
            assert client.getresponse().read() == str(worker.process.pid).encode()
        assert 1 <= _wakes_of_other_threads(worker.process.pid) < requests // 4


def _wakes_of_other_threads(pid: int) -> int:
    """Return how often threads other than the main one have gone to sleep (proc_pid_status(5))."""
    threads = [each for each in Path(f"/proc/{pid}/task").iterdir() if each.name != str(pid)]
    lines = [line for each in threads for line in (each / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
