"""What the gevent backend promises: a greenlet as users know it, and nothing of one request in the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from forkserve.backends.greenlets import IDLE, Pool
from tests.contract.test_engine import Client, get, worker_of
from tests.support.serving import Served

CLEAN = b"['first']False"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with worker_of("gevent", app="gevent_app:app") as worker:
        yield worker


def ask(client: Client, path: str) -> bytes:
    client.send(get(path))
    return client.response()[1]


@pytest.mark.parametrize("path", ["/leave", "/attribute"])
def test_nothing_local_is_left_to_the_next_request(served: Served, path: str) -> None:
    with Client(served) as client:
        assert [ask(client, path) for _ in range(4)] == [CLEAN] * 4
        assert ask(client, "/found") == CLEAN


@pytest.mark.parametrize("path", ["/forgotten", "/keep"])
def test_what_was_meant_for_an_ended_request_does_not_strike_the_next(served: Served, path: str) -> None:
    with Client(served) as client:
        for _ in range(3):
            ask(client, path)
            assert ask(client, "/waits") == b"waited"
            assert ask(client, "/kill_kept") == b"False"


def test_a_link_is_called_at_the_end_of_the_request(served: Served) -> None:
    with Client(served) as client:
        assert ask(client, "/link") == b"linked"
        assert ask(client, "/linked") == b"True"


def test_a_greenlet_may_outlive_the_response(served: Served) -> None:
    with Client(served) as client:
        assert ask(client, "/spawn") == b"spawned"
        assert ask(client, "/linked") == b"True"


def test_a_request_that_kills_itself_fails_alone(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/kill"))
        assert client.response()[0].startswith(b"HTTP/1.1 500")
    with Client(served) as client:
        assert ask(client, "/waits") == b"waited"


def test_requests_meet_in_a_queue(served: Served) -> None:
    with Client(served) as one, Client(served) as two:
        one.send(get("/get"))
        assert ask(two, "/put") == b"put"
        assert one.response()[1] == b"from another"


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/timeout", b"timed out"), ("/children", b"012"), ("/kind", b"Greenlet- False False True")],
)
def test_a_greenlet_is_as_any_other(served: Served, path: str, answer: bytes) -> None:
    with Client(served) as client:
        assert [ask(client, path) for _ in range(2)] == [answer] * 2


@pytest.mark.parametrize(("limit", "peak"), [("0", 8), ("2", 2)])
def test_worker_connections_bound_the_requests_that_run_at_once(limit: str, peak: int) -> None:
    with worker_of("gevent", "--worker-connections", limit, app="gevent_app:app") as worker:
        clients = [Client(worker) for _ in range(8)]
        for path in ("/crowd", "/kill", "/crowd"):
            for client in clients:
                client.send(get(path))
            answers = [client.response() for client in clients]
            for client in clients if path == "/kill" else ():
                client.sock.close()
            clients = [Client(worker) for _ in clients] if path == "/kill" else clients
        assert max(int(body) for _, body in answers) == peak
        for client in clients:
            client.sock.close()


def test_who_waits_for_a_greenlet_too_long_is_told_so() -> None:
    words = ("--worker-connections", "1", "--timeout", "1.5")
    with worker_of("gevent", *words, app="gevent_app:app") as worker, Client(worker) as first, Client(worker) as second:
        first.send(get("/get"))
        second.send(get("/waits"))
        assert second.response()[0].startswith(b"HTTP/1.1 503")
        assert first.response()[0].startswith(b"HTTP/1.1 504")
        with Client(worker) as third:
            assert ask(third, "/waits") == b"waited"


class Once:
    """An exchange that calls a function."""

    context: Any = None

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.green: Any = None

    def run(self) -> None:
        # Not the greenlet itself, of which a pool counts the references.
        self.green = id(gevent.getcurrent())
        self.act()


def in_hub(act: Callable[[], None]) -> None:
    done = Event()

    def acting() -> None:
        act()
        done.set()

    gevent.get_hub().loop.run_callback(acting)
    assert done.wait(10)


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    in_hub(pool.close)
    assert not pool.idle
    gevent.get_hub().destroy(destroy_loop=True)


@pytest.mark.parametrize("act", [lambda: None, lambda: gevent.sleep(0), lambda: gevent.sleep(0.001)])
def test_a_greenlet_that_nobody_holds_is_used_again(pool: Pool, act: Callable[[], None]) -> None:
    exchanges = [Once(act) for _ in range(3)]
    for exchange in exchanges:
        in_hub(lambda exchange=exchange: pool.start(exchange))  # type: ignore[misc]
        while exchange.context is not None:
            gevent.sleep(0)
        assert len(pool.idle) == 1
    assert len({exchange.green for exchange in exchanges}) == 1


def test_a_pool_keeps_no_more_than_its_bound(pool: Pool) -> None:
    go = Event()
    exchanges = [Once(go.wait) for _ in range(IDLE + 10)]  # type: ignore[arg-type]
    in_hub(lambda: [pool.start(each) for each in exchanges] and None)
    go.set()
    while any(each.context is not None for each in exchanges):
        gevent.sleep(0)
    assert len(pool.idle) == IDLE


def test_who_is_interrupted_after_its_end_is_left_alone(pool: Pool) -> None:
    first, second = Once(lambda: None), Once(lambda: gevent.sleep(0.001))

    def act() -> None:
        pool.start(first)
        pool.interrupt(first)  # type: ignore[arg-type]
        pool.start(second)

    in_hub(act)
    while second.context is not None:
        gevent.sleep(0)
    assert len(pool.idle) == 1
    assert first.green == second.green
