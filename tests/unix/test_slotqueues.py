"""With so_reuseport each slot has its own queue, and connections are dealt to those that are named."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from socket import AddressFamily

import pytest

from forkserve.config.model import SocketOptions
from forkserve.socketpool import SocketPool
from forkserve.supervision.state.sockets import pool_from_data, pool_to_data
from forkserve.unix.listeners import BoundListener
from forkserve.unix.queues import whole_length

pytestmark = pytest.mark.usefixtures("nothing_left")


@contextlib.contextmanager
def opened(**more: object) -> Iterator[tuple[SocketPool, BoundListener]]:
    options = {"host": "127.0.0.1", "port": 0, "so_reuseport": True, **more}
    pool = SocketPool.open([SocketOptions(name="web", **options)])  # type: ignore[arg-type]
    try:
        yield pool, pool["web"]
    finally:
        pool.close()


def arrivals(listener: BoundListener, number: int) -> dict[int, int]:
    """Connect so many times; return how many came to which slot."""
    address = listener.socket.getsockname()
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(socket.create_connection(address, timeout=10))
        length = whole_length(listener.sockets)
        assert length is not None and length.waiting == number
        return {wid: _take(each) for wid, each in zip((1, *listener.slots.sockets), listener.sockets, strict=True)}


def _take(queue: socket.socket) -> int:
    queue.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            queue.accept()[0].close()
            count += 1
    return count


def test_connections_are_dealt_to_the_slots_that_are_named_and_to_the_first_without_any() -> None:
    with opened() as (pool, listener):
        assert len({pool.fd(1, wid) for wid in (1, 2, 3, 4, 2)}) == 4
        assert arrivals(listener, 10) == {1: 10, 2: 0, 3: 0, 4: 0}
        listener.slots.deal(listener.socket, {2, 4})
        found = arrivals(listener, 60)
        assert (found[1], found[3]) == (0, 0) and min(found[2], found[4]) > 5
        listener.slots.deal(listener.socket, ())
        assert arrivals(listener, 10)[1] == 10


def test_a_queue_that_goes_leaves_the_others_what_they_have() -> None:
    with opened() as (pool, listener):
        for wid in (2, 3, 4):
            pool.fd(1, wid)
        listener.slots.deal(listener.socket, {1, 2, 4})
        listener.slots.drop(2, listener.socket)
        assert arrivals(listener, 40).keys() == {1, 3, 4}
        pool.fd(1, 5)
        listener.slots.deal(listener.socket, {4})
        assert arrivals(listener, 20)[4] == 20
        listener.slots.deal(listener.socket, {5})
        assert arrivals(listener, 20)[5] == 20
        listener.slots.drop(5, listener.socket)
        assert arrivals(listener, 20)[1] == 20


def test_a_state_that_is_read_back_deals_to_the_same_queues() -> None:
    with opened() as (pool, listener):
        for wid in (2, 3, 4):
            pool.fd(1, wid)
        listener.slots.drop(2, listener.socket)
        data = json.loads(json.dumps(pool_to_data(pool)))
        again = pool_from_data(data)["web"]
        again.slots.deal(again.socket, {4})
        assert arrivals(again, 20)[4] == 20
        for each in again.sockets:  # the descriptors are the pool's
            each.detach()


def test_where_another_program_listens_all_slots_share_one_queue(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with caplog.at_level(logging.WARNING), opened(port=other.getsockname()[1]) as (pool, _):
            assert pool.fd(1, 1) == pool.fd(1, 2) == pool.fd(1, 3)
            assert not pool.has_slots([1])
        (line,) = (each.getMessage() for each in caplog.records)
        assert line.endswith("so_reuseport: all slots share one queue: another socket listens at its port")


@pytest.mark.parametrize("kind", ["unix", "plain"])
def test_other_sockets_have_one_queue(tmp_path: Path, kind: str) -> None:
    more = {"family": AddressFamily.AF_UNIX, "path": str(tmp_path / "s")} if kind == "unix" else {"so_reuseport": False}
    with opened(**more) as (pool, _):
        assert pool.fd(1, 1) == pool.fd(1, 2)
        assert not pool.has_slots([1])


def test_switched_on_later_it_deals_as_well() -> None:
    with opened(so_reuseport=False) as (pool, before):
        wanted = SocketOptions(name="web", host="127.0.0.1", port=0, so_reuseport=True)
        pool.commit(pool.prepare([wanted], {}))
        listener = pool["web"]
        assert listener.fd == before.fd
        assert pool.fd(1, 2) != pool.fd(1, 1)
        assert arrivals(listener, 10) == {1: 10, 2: 0}
