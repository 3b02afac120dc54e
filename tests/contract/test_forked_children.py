"""A process that an application forks holds none of our sockets, waits, and ends as it would anywhere."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_engine import one
from tests.support.serving import Served, serving

FOLDER = Path(__file__).parent
OWN = ("sync", "threads", "gevent", "asgi")


@contextlib.contextmanager
def worker_of(backend: str, *, pure: bool = False, method: str = "fork") -> Iterator[Served]:
    threads = ["--threads", "2"] if backend == "threads" else []
    words = ["--backend", backend, *threads, f"stuck_app:{'asgi' if backend == 'asgi' else 'strict'}"]
    environ = {"FORKSERVE_PURE": "1" if pure else "", "METHOD": method}
    with serving(words, folder=FOLDER, environ=environ) as worker:
        yield worker
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("backend", OWN)
def test_a_child_holds_no_socket_of_ours_and_ends_with_its_own_code(backend: str, pure: bool) -> None:
    with worker_of(backend, pure=pure) as worker:
        for path, code in (("/exits", 7), ("/leaves", 5), ("/raises", 1), ("/leaves", 5)):
            status, held, parent_has_some = json.loads(one(worker, path)[1])
            assert (path, status, held, parent_has_some) == (path, code, [], True)
        assert one(worker, "/pid")[1] == str(worker.process.pid).encode()
    assert b"KeyError: 'missing'" in worker.log
    assert worker.log.count(b"Traceback") == 1
    assert b"came back" not in worker.log
    assert worker.log.count(b"drained, ending") == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("backend", OWN)
def test_processes_of_multiprocessing_wait_and_end(backend: str, method: str) -> None:
    with worker_of(backend, method=method) as worker:
        assert json.loads(one(worker, "/processes")[1]) == [3, 4]
        assert one(worker, "/command")[1] == b"9"
        assert one(worker, "/pid")[1] == str(worker.process.pid).encode()
    assert b"Error" not in worker.log


def test_other_requests_do_not_go_on_in_the_child_of_a_greenlet_of_gevent() -> None:
    with worker_of("gevent") as worker, contextlib.closing(worker.connect()) as other:
        other.request("GET", "/slowly")
        assert json.loads(one(worker, "/outlives")[1]) == [7, True]
        assert other.getresponse().read() == b"ran in 1 process"
