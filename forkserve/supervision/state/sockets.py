"""The sockets as plain data, and back: queues by number with their descriptors, including retired ones.

Rules: as for `watchers`. A change of the configuration in progress is in `change`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from forkserve.config.model import SocketOptions
from forkserve.socketpool import SocketPool
from forkserve.supervision.reload.retirement import Retirement
from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.listeners import BindTarget, BoundListener
from forkserve.unix.slotqueues import FIRST, SlotQueues
from forkserve.unix.socketfiles import SocketFile
from forkserve.unix.socketstore import SocketStore

__all__ = [
    "listener_from_data",
    "listener_to_data",
    "pool_from_data",
    "pool_to_data",
    "retirement_from_data",
    "retirement_to_data",
]

Data = Mapping[str, Any]


def pool_to_data(pool: SocketPool) -> Data:
    """Return the queues and their names."""
    return {
        "numbers": dict(pool.numbers),
        "last": pool.last,
        "hidden": sorted(pool.hidden),
        "stored": {str(number): name for number, name in pool.store.stored.items()},
        "sure": sorted(pool.store.sure),
        "stored_slots": {
            str(number): {str(wid): name for wid, name in each.items()} for number, each in pool.store.slots.items()
        },
        "queues": {str(number): listener_to_data(each) for number, each in pool.queues.items()},
    }


def pool_from_data(data: Data) -> SocketPool:
    """Return a pool of the same queues, whose descriptors this process has open."""
    pool = SocketPool(())
    pool.queues = {int(number): listener_from_data(each) for number, each in data["queues"].items()}
    pool.numbers, pool.last, pool.hidden = dict(data["numbers"]), data["last"], set(data["hidden"])
    stored = {int(number): name for number, name in data.get("stored", {}).items()}
    of_slots = {
        int(number): {int(wid): name for wid, name in each.items()}
        for number, each in data.get("stored_slots", {}).items()
    }
    pool.store = SocketStore(os.environ, stored, set(data.get("sure", ())), of_slots)
    return pool


def retirement_to_data(retirement: Retirement) -> Data:
    """Return since when which queues are being emptied, and which processes read them."""
    sealed = {str(number): instant for number, instant in retirement.sealed.items()}
    origins = {str(number): sorted(pairs) for number, pairs in retirement.origins.items()}
    filled = {str(number): instant for number, instant in retirement.filled.items()}
    return {"sealed": sealed, "filled": filled, "held": sorted(retirement.held), "origins": origins}


def retirement_from_data(data: Data, retirement: Retirement) -> None:
    """Go on from the state of another one."""
    retirement.sealed = {int(number): instant for number, instant in data["sealed"].items()}
    retirement.filled = {int(number): instant for number, instant in data["filled"].items()}
    retirement.held = set(data["held"])
    retirement.origins = {
        int(number): frozenset((watcher, name) for watcher, name in pairs) for number, pairs in data["origins"].items()
    }


def listener_to_data(listener: BoundListener) -> Data:
    """Return one listener."""
    return {
        "options": msgspec.to_builtins(listener.options),
        "target": msgspec.to_builtins(listener.target),
        "file": msgspec.to_builtins(listener.file),
        "v6only": listener.v6only,
        "fd": descriptor(listener.fd),
        "kind": (int(listener.socket.family), int(listener.socket.type)),
        "slots": _slots_to_data(listener.slots),
    }


def listener_from_data(data: Data) -> BoundListener:
    """Return it again."""
    fd = number_of(data["fd"])
    if fd >= 0:
        sock = socket.socket(fileno=fd)
    else:  # it was closed, and is bound again on demand
        sock = socket.socket(*data["kind"])
        sock.close()
    return BoundListener(
        msgspec.convert(data["options"], SocketOptions),
        sock,
        msgspec.convert(data["target"], BindTarget),
        msgspec.convert(data["file"], SocketFile | None),
        data["v6only"],
        _slots_from_data(data.get("slots", {})),
    )


def _slots_to_data(slots: SlotQueues) -> Data:
    return {
        "fds": {str(wid): descriptor(each.fileno()) for wid, each in slots.sockets.items()},
        "order": list(slots.order),
        "dealt": list(slots.dealt),
        "shared": slots.shared,
        "beside": {str(wid): list(each) for wid, each in slots.beside.items()},
    }


def _slots_from_data(data: Data) -> SlotQueues:
    fds = {int(wid): number_of(fd) for wid, fd in data.get("fds", {}).items()}
    return SlotQueues(
        {wid: socket.socket(fileno=fd) for wid, fd in fds.items() if fd >= 0},
        list(data.get("order", [FIRST])),
        tuple(data.get("dealt", ())),
        data.get("shared"),
        {int(wid): (watcher, number) for wid, (watcher, number) in data.get("beside", {}).items()},
    )
