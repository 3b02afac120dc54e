"""HttpObserver and RedisObserver: ask a server at intervals, and restart a watcher when it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from forkserve.sidecars.plugins.base import Plugin

__all__ = ["HttpObserver", "RedisObserver", "figures_of"]

_NO_ANSWER = 599
"""The name in tornado, and so in Circus, for a missing answer."""

_OBSERVED = (
    "blocked_clients", "client_biggest_input_buf", "client_longest_output_list", "connected_clients",
    "connected_slaves", "evicted_keys", "expired_keys", "keyspace_hits", "keyspace_misses", "lru_clock",
    "mem_fragmentation_ratio", "pubsub_channels", "pubsub_patterns", "total_commands_processed",
    "total_connections_received", "uptime_in_seconds", "used_cpu_sys", "used_cpu_sys_children", "used_cpu_user",
    "used_memory", "used_memory_peak", "used_memory_rss",
)  # fmt: skip
"""Lines of Redis's INFO."""


class HttpObserver(Plugin):
    """Requests a URL; an error, a status of 400 or more, and no answer in time are errors."""

    async def run(self) -> None:
        """Check at the interval of loop_rate."""
        self._statsd = self.statsd()
        await self.every(self.options["loop_rate"], self._poll)

    async def _poll(self) -> None:
        begun = time.monotonic()
        code = await asyncio.to_thread(_status_of, self.options["check_url"], self.options["timeout"])
        if code is None:
            self._statsd.timed("http_stats.request_time", int(1000 * (time.monotonic() - begun)))
            return
        self._statsd.increment("http_stats.error")
        self._statsd.increment(f"http_stats.error.{code}")
        if self.options["restart_on_error"]:
            await self.ask("restart", watcher=self.options["restart_on_error"], waiting=False)
            self._statsd.increment("http_stats.restart_on_error")


def _status_of(url: str, timeout: float) -> int | None:
    """Return the status of an error, None for a good answer."""
    try:
        with urllib.request.urlopen(url, timeout=timeout):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, ValueError):
        return _NO_ANSWER


class RedisObserver(Plugin):
    """Asks a Redis for INFO."""

    async def run(self) -> None:
        """Check at the interval of loop_rate."""
        self._statsd = self.statsd()
        await self.every(self.options["loop_rate"], self._poll)

    async def _poll(self) -> None:
        try:
            async with asyncio.timeout(self.options["timeout"]):
                info = await _info_of(self.options["redis_url"])
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            self._statsd.increment("redis_stats.error")
            if self.options["restart_on_timeout"]:
                await self.ask("restart", watcher=self.options["restart_on_timeout"], waiting=False)
                self._statsd.increment("redis_stats.restart_on_error")
            return
        for key, value in figures_of(info).items():
            self._statsd.gauge(f"redis_stats.{key}", value)


def figures_of(info: str) -> Mapping[str, float]:
    """Return the numbers of an INFO that are observed."""
    found = {}
    for line in info.splitlines():
        key, _, value = line.partition(":")
        if key in _OBSERVED:
            with contextlib.suppress(ValueError):
                found[key] = float(value)
    return found


async def _info_of(url: str) -> str:
    """Return Redis's INFO; raises OSError, ValueError and IncompleteReadError."""
    place = urlsplit(url)
    if place.scheme == "unix":
        reader, writer = await asyncio.open_unix_connection(place.path)
    else:
        secure = True if place.scheme == "rediss" else None
        reader, writer = await asyncio.open_connection(place.hostname or "localhost", place.port or 6379, ssl=secure)
    try:
        if place.password:
            user = (unquote(place.username),) if place.username else ()
            await _told(reader, writer, "AUTH", *user, unquote(place.password))
        return await _told(reader, writer, "INFO")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: str) -> str:
    """Return the answer to one command (RESP2: a line that begins with its kind)."""
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words)]
    writer.write(b"".join(parts))
    head = (await reader.readuntil(b"\r\n")).decode()
    if head.startswith("-"):
        raise ValueError(head[1:].strip())
    if not head.startswith("$"):
        return head[1:].strip()
    return (await reader.readexactly(int(head[1:]) + 2)).decode("utf-8", "replace")
