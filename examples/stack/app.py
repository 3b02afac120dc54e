"""Counts its visits in the Redis that the same forkserve keeps running beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

visits = redis.Redis(unix_socket_path=os.environ["REDIS_SOCKET"])


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Count one visit; the number is shared by all workers."""
    body = f"visit {visits.incr('visits')} served by process {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
