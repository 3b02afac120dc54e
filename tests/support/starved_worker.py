"""A forkserve-worker in which one allocation of a turn of its loop fails, when it is told so.

`STARVED` in the environment is the number of a descriptor: memory shared with the test, as `Order` has it. The failing
allocation is that of CPython's own tests, `_testcapi.set_nomemory`; outside of `Driver.ready` nothing fails, since what
asyncio or the interpreter make of it there is not ours.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from select import POLLIN
from typing import Any

__all__ = ["Order"]

_ROOM = struct.Struct("qqq")
OFF = -1


class Order:
    """Which allocation of a turn is to fail, and whether a turn has come so far since."""

    def __init__(self, fd: int) -> None:
        self._shared = mmap.mmap(fd, _ROOM.size)

    @classmethod
    def made(cls) -> tuple[Order, int]:
        """Return a new one, that asks for nothing, and its descriptor."""
        fd = os.memfd_create("starved")
        os.ftruncate(fd, _ROOM.size)
        order = cls(fd)
        order.end()
        return order, fd

    def give(self, number: int) -> None:
        """Have that allocation of a turn fail once (0 is the first)."""
        self._shared[:] = _ROOM.pack(number, 0, 0)

    def end(self) -> None:
        """Have none fail from now on."""
        self._shared[:8] = struct.pack("q", OFF)

    @property
    def number(self) -> int:
        return int(_ROOM.unpack(self._shared[:])[0])

    @property
    def reached(self) -> bool:
        """Whether the allocation has failed since the order was given."""
        return bool(_ROOM.unpack(self._shared[:])[1])

    def reach(self) -> None:
        self._shared[8:16] = struct.pack("q", 1)

    @property
    def excused(self) -> bool:
        """Whether it has failed within accept: CPython then forgets the descriptor, and its client waits in vain."""
        return bool(_ROOM.unpack(self._shared[:])[2])

    def excuse(self) -> None:
        self._shared[16:] = struct.pack("q", 1)


def _starve(order: Order) -> None:
    from _testcapi import remove_mem_hooks, set_nomemory  # type: ignore[import-not-found,unused-ignore]

    from forkserve.serving.engine import acceptor
    from forkserve.serving.engine.driver import Driver
    from forkserve.serving.engine.listening import Listening
    from forkserve.serving.engine.native import poll

    acceptor.PAUSE = 0.02  # seconds until it accepts again; half a second each would make minutes
    ready = Driver.ready

    def starved(driver: Driver, timeout: float | None = 0.0) -> None:
        # Waited for here, so that the order is looked at when there is something to do.
        poller = poll()
        poller.register(driver.fileno(), POLLIN)
        poller.poll(None if timeout is None else timeout * 1000)
        number = order.number
        if number == OFF or order.reached:
            ready(driver, 0.0)
            return
        set_nomemory(number, number + 1)
        try:
            ready(driver, 0.0)
        finally:
            try:
                # What is left of the number shows whether the turn came so far.
                for _ in range(number + 1):
                    object()
            except MemoryError:
                remove_mem_hooks()
            else:
                remove_mem_hooks()
                order.reach()

    made = Listening.__init__

    def watched(listening: Listening, *args: Any) -> None:
        made(listening, *args)
        accept = listening._accept

        def accepting() -> Any:
            try:
                return accept()
            except MemoryError:
                order.excuse()
                raise

        listening._accept = accepting  # type: ignore[assignment]

    Listening.__init__ = watched  # type: ignore[assignment, method-assign]
    Driver.ready = starved  # type: ignore[method-assign]


if __name__ == "__main__":
    from forkserve.cli.worker import main

    _starve(Order(int(os.environ["STARVED"])))
    sys.exit(main())
