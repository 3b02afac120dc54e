"""What is found in a process that is to be forked, and that a fork does not keep, or that its children would share.

Rules: it only reads. What existed before the application (`before`) is ours.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Collection, Iterator
from select import poll

__all__ = ["findings", "open_descriptors", "unfit_to_fork"]

# Those of the standard library: gevent replaces them.
_Socket = socket.socket

_NAMED = 5
"""Threads or sockets that are named; of more only the number."""


def open_descriptors() -> frozenset[int]:
    """Return the descriptors of this process."""
    return frozenset(fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd))


def _is_open(fd: int) -> bool:
    # the folder that was read is in it, and closed by now
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def findings(before: Collection[int]) -> list[str]:
    """Return a line for each kind of thing found."""
    return [line for line in (_threads(), _children(), _sockets(before), _loops(), _hub()) if line]


def unfit_to_fork(patience: float) -> str:
    """Return why a process that has served cannot be forked, "" if it can; its threads have `patience` seconds to
    end.
    """
    end = time.monotonic() + patience
    while (found := _threads() or _loops()) and time.monotonic() < end:
        poll().poll(10)
    return found


def _threads() -> str:
    """Return which threads run beside this one, "" for none."""
    own, running = threading.get_native_id(), {int(name) for name in os.listdir("/proc/self/task")}
    # By what the kernel runs: gevent has objects for threads that are none.
    known = [each for each in threading.enumerate() if each.native_id in running and each.native_id != own]
    strange = sorted(running - {each.native_id for each in known} - {own})
    names = [_named(each) for each in known] + [f"{_command(tid)} (not of Python)" for tid in strange]
    if not names:
        return ""
    verb = "threads run" if len(names) > 1 else "thread runs"
    return f"{len(names)} {verb} in the zygote, and will in no worker: {_some(names)}"


def _named(thread: threading.Thread) -> str:
    target = getattr(thread, "_target", None)
    what = getattr(target, "__qualname__", "") or f"{type(thread).__module__}.{type(thread).__qualname__}"
    return f"{thread.name} ({what})"


def _command(tid: int) -> str:
    return _comm(f"/proc/self/task/{tid}") or "one that has just ended"


def _comm(folder: str) -> str:
    try:
        with open(f"{folder}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _children() -> str:
    """Return which processes the application has started; "" for none, or on a kernel that does not list them."""
    found: list[str] = []
    for tid in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{tid}/children") as file:
            found += file.read().split()
    names = [f"{name} (pid {pid})" for pid in sorted(found, key=int) if (name := _comm(f"/proc/{pid}"))]
    if not names:
        return ""
    noun = "processes were" if len(names) > 1 else "process was"
    return f"{len(names)} {noun} started in the zygote, for all workers: {_some(names)}"


def _sockets(before: Collection[int]) -> str:
    found = [text for fd in sorted(open_descriptors() - frozenset(before)) if (text := _socket(fd))]
    if not found:
        return ""
    noun = "sockets are" if len(found) > 1 else "socket is"
    return f"{len(found)} {noun} open in the zygote, and shared by all workers: {_some(found)}"


def _socket(fd: int) -> str:
    """Return what a socket is connected to, "" if the descriptor is not a socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return ""
        with _Socket(fileno=os.dup(fd)) as twin:
            try:
                return f"connected to {_address(twin.getpeername())}"
            except OSError:
                return f"bound to {_address(twin.getsockname())}"
    except OSError:
        return f"descriptor {fd}, not connected"


def _address(address: object) -> str:
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(address, bytes):
        address = "@" + address[1:].decode(errors="replace")
    return str(address) or "another end of a socketpair"


def _loops() -> str:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return ""
    loops = [each for each in _instances_of(asyncio.AbstractEventLoop) if not each.is_closed()]  # type: ignore[attr-defined]
    if not loops:
        return ""
    noun = "event loops are" if len(loops) > 1 else "event loop is"
    return f"{len(loops)} {noun} open in the zygote, and not to be used in a worker: make it when it is needed"


def _instances_of(cls: type) -> Iterator[object]:
    # Not isinstance(), which asks the object, that may be a proxy to what is not there.
    return (each for each in gc.get_objects() if issubclass(type(each), cls))


def _hub() -> str:
    local = sys.modules.get("gevent._hub_local")
    hub = None if local is None else local.get_hub_if_exists()
    if hub is None or hub.dead or not hub:
        return ""
    return "a gevent hub runs in the zygote: greenlets that were started at import run in no worker"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
