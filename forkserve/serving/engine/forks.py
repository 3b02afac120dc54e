"""What becomes of a process that the application has forked.

It has copies of our sockets: a client would not see its connection end while one lives, and a child that returns from
the application would serve beside us. So the copies are closed in the child, and a child that comes back is ended.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any, NoReturn

from forkserve.errors import ExitCode
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.native import Socket
from forkserve.serving.engine.share import UNSEEN
from forkserve.serving.engine.sockets import Sockets

__all__ = ["contain"]

log = logging.getLogger("forkserve.engine")


def contain(driver: Sockets) -> None:
    """Have it so for all later forks of this process."""
    known = weakref.ref(driver)

    def in_child() -> None:
        owner = known()
        if owner is None or owner.epoll.closed:
            return
        for name in ("reply", "write", "write_file", "done"):
            setattr(Connection, name, _end)
        for conn in owner.connections.values():
            conn.raw = False
            if isinstance(conn.sock, Socket):
                conn.sock.close()
            else:
                conn.sock.close_in_child()
        owner.mark = UNSEEN
        owner.epoll.close()

    os.register_at_fork(after_in_child=in_child)


def _end(*_: Any) -> NoReturn:
    log.error("a process that the application forked came back into the server; it is ended")
    logging.shutdown()
    os._exit(ExitCode.FAILURE)
