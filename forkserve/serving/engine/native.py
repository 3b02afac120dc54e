"""The kernel's own primitives, also where gevent has patched the standard library for the application.

gevent takes `epoll` out of `select` and puts its own classes in place of `socket.socket` and of locks; the driver needs
the real ones, whether it is imported before or after that. The C class beneath `socket.socket` is also the lighter one.
"""

from __future__ import annotations

import _thread
import select
import sys
from _socket import socket as Socket
from typing import TYPE_CHECKING, Any

__all__ = ["RLock", "Socket", "epoll", "poll"]


def _original(module: Any, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)


if TYPE_CHECKING:
    epoll = select.epoll
    poll = select.poll
    RLock = _thread.RLock
else:
    epoll = _original(select, "epoll")
    poll = _original(select, "poll")
    RLock = _original(_thread, "RLock")
