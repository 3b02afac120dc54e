"""What happens in a process that the application has forked.

It has copies of our sockets: a client would not see its connection end while one exists, and a child that returns from
the application would serve beside us. So the copies are closed in the child, and a child that returns is ended: like
the interpreter would end it if it returns by an exception, above all SystemExit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
import weakref
from typing import Any, NoReturn

from forkserve.errors import ExitCode
from forkserve.serving.engine.connection import Connection
from forkserve.serving.engine.driver import Driver
from forkserve.serving.engine.native import Socket

__all__ = ["end_child", "failing_ends_child", "isolate_forked_children"]

log = logging.getLogger("forkserve.engine")


def isolate_forked_children(driver: Driver) -> None:
    """Install the at-fork handler."""
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
        for listening in owner.acceptor.listenings:
            listening.sock.close()
        owner.acceptor.policy.on_fork()
        owner.epoll.close()
        # Else signals of the child would wake our loop, and be taken for ours.
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
        for act in owner.in_child:
            act()

    os.register_at_fork(after_in_child=in_child)


def failing_ends_child(driver: Driver, module: str, method: str) -> None:
    """Make exceptions of the application in a forked child end that child.

    `method`, as in `WsgiExchange.fail`, gets the error; its module may never be imported.
    """
    cls, _, name = method.partition(".")

    def fail(exchange: Any, error: BaseException) -> NoReturn:
        # Our own, that the connection is closed, is the child's coming back.
        end_child(None if isinstance(error, OSError) and exchange.conn.lost else error)

    def in_child() -> None:
        if module in sys.modules:
            setattr(getattr(sys.modules[module], cls), name, fail)

    driver.in_child.append(in_child)


def end_child(error: BaseException | None) -> NoReturn:
    """End a forked process with the exception raised in it, without the exit handlers and files of its parent."""
    code: object = ExitCode.FAILURE
    if isinstance(error, SystemExit):
        code = error.code
        if code is not None and not isinstance(code, int):
            _write(f"{code}\n")
    elif error is not None:
        _write("".join(traceback.format_exception(error)))
    else:
        log.error("a process that the application forked returned into the server; it is ended")
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit((code if isinstance(code, int) else int(code is not None)) & 0xFF)


def _write(text: str) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(text)


def _end(*_: Any) -> NoReturn:
    end_child(None)
