"""waitress: pure Python, one loop and a pool of threads; the safest drop-in of the third-party WSGI servers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

from forkserve.backends.base import App, Interface, Repair, Run, Traits
from forkserve.backends.shim import Shim
from forkserve.logs import adopt

__all__ = ["Waitress"]

CONNECTIONS = 900
"""Limit of connections: waitress's default of 100 is exhausted by as many idle clients; its select(2) ends at 1024."""


class Waitress:
    """waitress.create_server on inherited sockets, driven here so that it can drain."""

    traits: ClassVar[Traits] = Traits(
        interfaces=frozenset({Interface.WSGI}),
        concurrency="a loop, and --threads that run the application (4 if not given)",
        repairs=frozenset({Repair.HEAD, Repair.ADDRESS}),
        honours=frozenset(
            {"graceful_timeout", "threads", "max_requests", "max_requests_jitter", "keep_alive", "max_body"}
        ),
        weaknesses=("at most 900 connections", "lets some smuggled requests through"),
        requires=("waitress",),
        imports=("waitress.channel",),
    )

    def serve(self, app: App, listeners: Sequence[socket.socket], run: Run) -> None:
        """Serve until drained."""
        from waitress import create_server, wasyncore

        # It warns of every request that has to wait for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        adopt("waitress", "waitress.queue")

        channels: dict[int, Any] = {}
        serving = run.options
        server = create_server(
            Shim(app, self.traits.repairs, listeners, run),
            map=channels,
            sockets=list(listeners),
            threads=serving.concurrency.threads if serving.concurrency.threads > 1 else 4,
            ident=None,
            connection_limit=CONNECTIONS,
            channel_timeout=int(serving.timeouts.keep_alive) or 1,
            max_request_body_size=serving.http.max_body or 1 << 62,
            clear_untrusted_proxy_headers=False,
        )
        _wake_at_drain(run.drain_fd, channels)
        run.ready()
        while not run.draining:
            wasyncore.loop(timeout=10, map=channels, count=1)
        for each in list(channels.values()):
            if getattr(each, "accepting", False):
                each.accepting = False  # no close(): the trigger that wakes this loop belongs to it
        while _close_idle(channels):
            wasyncore.loop(timeout=1, map=channels, count=1)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(channels)


def _close_idle(channels: dict[int, Any]) -> int:
    """Close the connections without a request; return how many are left."""
    from waitress.channel import HTTPChannel

    busy = 0
    for each in list(channels.values()):
        if isinstance(each, HTTPChannel):
            if each.requests or each.request is not None or each.total_outbufs_len:
                busy += 1
                if not each.requests and each.request is None:
                    each.close_when_flushed = True
            else:
                each.handle_close()
    return busy


def _wake_at_drain(fd: int, channels: dict[int, Any]) -> None:
    """Wake the loop when `fd` becomes readable."""
    from waitress import wasyncore

    class WaitressDrain(wasyncore.file_dispatcher):
        def writable(self) -> bool:
            return False

        def handle_read(self) -> None:
            self.del_channel()

    WaitressDrain(fd, map=channels)
