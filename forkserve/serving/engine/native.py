"""The original system primitives, even if gevent has patched the standard library for the application.

gevent removes `epoll` from `select`, replaces `socket.socket` and locks by its own classes, and turns threads into
greenlets; the engine needs the originals, whether it is imported before or after that. The C class beneath
`socket.socket` is also the lighter one.
"""

from __future__ import annotations

import _thread
import select
import sys
from _socket import socket as Socket
from typing import TYPE_CHECKING, Any

__all__ = ["RLock", "Socket", "allocate_lock", "epoll", "get_ident", "poll", "start_new_thread"]


def _original(module: Any, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)


if TYPE_CHECKING:
    allocate_lock = _thread.allocate_lock
    epoll = select.epoll
    get_ident = _thread.get_ident
    poll = select.poll
    RLock = _thread.RLock
    start_new_thread = _thread.start_new_thread
else:
    allocate_lock = _original(_thread, "allocate_lock")
    epoll = _original(select, "epoll")
    get_ident = _original(_thread, "get_ident")
    poll = _original(select, "poll")
    RLock = _original(_thread, "RLock")
    start_new_thread = _original(_thread, "start_new_thread")
