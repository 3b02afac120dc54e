"""What lives longer than a reload: an event stream and WebSockets."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter

from bench.harness.clients import drive
from bench.harness.context import Bench
from bench.harness.model import BenchError, Better, Cell, Metric, Sample, Settings
from bench.harness.probe import Request
from bench.harness.running import Running
from bench.harness.scenarios.base import Timed
from bench.harness.scenarios.prefork import Prefork
from bench.harness.target import HOST
from bench.harness.websocket import HANDSHAKE

__all__ = ["Streams", "follow_socket", "follow_stream"]

SOCKETS = 100
WATCHED = 14.0  # seconds from the reload, four more than the stream takes
CLOSE = 0x88  # FIN and opcode 8, RFC 6455 section 5.5.1
STREAM = b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Streams(Prefork):
    """A reload while a stream and WebSockets are open."""

    name = "streams"
    title = f"A stream and {SOCKETS} WebSockets over a reload"
    question = (
        f"An event stream of 10 s and {SOCKETS} idle WebSockets are open when the server is told to reload: is the "
        f"stream whole, and is each WebSocket closed with a close frame? 2 workers, watched for {WATCHED:g} s."
    )
    reading = (
        "A connection that ends without a close frame is cut: a browser sees code 1006 and cannot tell a deploy from a "
        "fault. Those still open keep old code running."
    )
    metrics = (
        Metric("whole", "stream is whole", "1 = yes", Better.HIGHER),
        Metric("closed", "closed by a close frame", "", Better.HIGHER),
        Metric("cut", "cut", "", Better.LOWER),
        Metric("open", f"open after {WATCHED:g} s", "", Better.LOWER),
        Metric("last_s", "last closed after", "s", Better.LOWER, 1),
    )
    baseline = "gunicorn-asgi"
    servers = short_servers = ("forkserve-asgi", "gunicorn-asgi", "uvicorn", "granian-asgi", "peregrine-asgi")
    in_short = False
    divides = False
    most_rounds = 1

    def seconds(self, cell: Cell, settings: Settings) -> float:
        """Start, connect, watch."""
        return WATCHED + 4.0

    def measure(self, cell: Cell, bench: Bench) -> Timed:
        """Reload one server once."""
        launch = self.launch(bench, cell.server, "plain:stream_{}", workers=2)
        values: dict[str, float] = {}
        ends: Counter[str] = Counter()
        with bench.ready(cell.server, launch, Request()) as running:
            drive(watch(running, values, ends))
            command = running.command
        note = ", ".join(f"{count} x {how}" for how, count in sorted(ends.items()))
        return Sample(values, {}, note), command


async def watch(running: Running, values: dict[str, float], ends: Counter[str]) -> None:
    """Open all, reload, and note how each ended."""
    stream = asyncio.create_task(follow_stream(running.launch.port))
    opened = asyncio.Semaphore(0)
    sockets = [asyncio.create_task(follow_socket(running.launch.port, opened)) for _ in range(SOCKETS)]
    try:
        async with asyncio.timeout(5.0):
            for _ in range(SOCKETS):
                await opened.acquire()
    except TimeoutError:
        raise BenchError("not all WebSockets could be opened in 5 s") from None
    await asyncio.sleep(0.5)
    at = time.monotonic()
    await asyncio.to_thread(running.reload)
    done, left = await asyncio.wait([stream, *sockets], timeout=WATCHED)
    values["whole"] = float(stream in done and stream.result())
    found = [task.result() for task in sockets if task in done]
    closed = [when for how, when in found if how != "cut"]
    ends.update(how for how, _ in found)
    values |= {"closed": len(closed), "cut": len(found) - len(closed), "open": SOCKETS - len(found)}
    if closed:
        values["last_s"] = max(closed) - at
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def follow_stream(port: int) -> bool:
    """Read an event stream to its end; return whether it was whole (RFC 9112 section 7.1: the last chunk)."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(STREAM)
    data = b""
    try:
        while not data.endswith(b"\r\n0\r\n\r\n") and (block := await reader.read(1 << 16)):
            data += block
    except OSError:
        return False
    finally:
        writer.close()
    return data.endswith(b"\r\n0\r\n\r\n") and b"data: 39\n\n" in data


async def follow_socket(port: int, opened: asyncio.Semaphore) -> tuple[str, float]:
    """Open a WebSocket and wait for its end; return its close code or "cut", and when (monotonic clock)."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise BenchError(f"no WebSocket: {head[:60]!r}")
        opened.release()
        return await _code(reader), time.monotonic()
    except (OSError, asyncio.IncompleteReadError):
        return "cut", time.monotonic()
    finally:
        writer.close()


async def _code(reader: asyncio.StreamReader) -> str:
    """Read frames, all short and none masked, until one closes."""
    while True:
        kind, size = await reader.readexactly(2)
        data = await reader.readexactly(size)
        if kind == CLOSE:
            return f"code {struct.unpack('!H', data[:2])[0]}" if size >= 2 else "no code"
