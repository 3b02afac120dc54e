"""Requests that hang, each in another way, by either interface."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from typing import Any

held = ctypes.PyDLL(None)
"""C code that keeps the interpreter's lock."""


def hang_in_c() -> None:
    # usleep takes what fits into 32 bits; a signal ends each
    for _ in range(1000):
        held.usleep(ctypes.c_uint(60_000_000))


def hang_once_in_c() -> None:
    # whatever signal comes first ends it
    held.usleep(ctypes.c_uint(60_000_000))


def idle_beside() -> None:
    threading.Event().wait()


threading.Thread(target=idle_beside, name="beside", daemon=True).start()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/c":
        hang_in_c()
    if environ["PATH_INFO"] == "/once":
        hang_once_in_c()
    if environ["PATH_INFO"] == "/wait":
        waits_for_fifo()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def waits_for_fifo() -> None:
    with open(os.environ["FORKSERVE_TEST_FIFO"], "rb") as fifo:
        fifo.read()


async def waits_in_a_task() -> None:
    await asyncio.get_running_loop().create_future()


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/c":
        hang_in_c()
    if scope["path"] == "/once":
        hang_once_in_c()
    if scope["path"] == "/wait":
        await waits_in_a_task()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
