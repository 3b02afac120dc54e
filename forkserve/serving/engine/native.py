"""The kernel's own primitives, also where gevent has patched the standard library for the application.

gevent takes `epoll` out of `select` and puts its own class in place of `socket.socket`; the driver needs the real ones,
whether it is imported before or after that. The C class beneath `socket.socket` is also the lighter one.
"""

from __future__ import annotations

import select
import sys
from _socket import socket as Socket
from typing import TYPE_CHECKING, Any

__all__ = ["Socket", "epoll", "poll"]


def _original(name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(select, name) if monkey is None else monkey.get_original("select", name)


if TYPE_CHECKING:
    epoll = select.epoll
    poll = select.poll
else:
    epoll = _original("epoll")
    poll = _original("poll")
