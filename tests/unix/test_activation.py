"""Which sockets are watched for watchers that wait for a connection, on real sockets and a real loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

import pytest

from forkserve.config.model import SocketOptions
from forkserve.socketpool import SocketPool
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.slots.activation import Activation
from forkserve.unix.queues import is_connected


@dataclass
class Command:
    queues: tuple[int, ...]


class Waiting:
    """A watcher that reads some queues, and waits until it is woken."""

    def __init__(self, name: str, *queues: int) -> None:
        self.name = name
        self.command = Command(queues)
        self.is_waiting = True
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1
        self.is_waiting = False


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pool() -> Iterator[SocketPool]:
    pool = SocketPool.open([SocketOptions(name=name, host="127.0.0.1", port=0) for name in ("a", "b")])
    yield pool
    pool.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_connection_wakes_all_that_share_the_socket_and_nothing_is_watched_then(pool: SocketPool, loop: Loop) -> None:
    before = descriptors()
    first, second = pool.numbers["a"], pool.numbers["b"]
    activation = Activation(pool, loop)
    both, one, other = Waiting("both", first, second), Waiting("one", first), Waiting("other", second)
    for each in (both, one, other):
        activation.note(each)
    activation.update_watched()
    assert descriptors() == before + 2
    with create_connection(pool.queues[first].socket.getsockname()[:2]):
        loop.run_once()
        assert (both.woken, one.woken, other.woken) == (1, 1, 0)
        assert is_connected(pool.queues[first].socket)
        activation.update_watched()
        assert descriptors() == before + 2  # the client's, and that of the socket that `other` waits at
    other.is_waiting = False
    activation.note(other)
    activation.update_watched()
    assert descriptors() == before


def test_a_socket_that_was_closed_is_watched_no_more(pool: SocketPool, loop: Loop) -> None:
    activation = Activation(pool, loop)
    waiting = Waiting("one", pool.numbers["a"])
    activation.note(waiting)
    activation.update_watched()
    before = descriptors()
    pool.release(pool.numbers["a"])
    activation.update_watched()
    assert descriptors() == before - 2
