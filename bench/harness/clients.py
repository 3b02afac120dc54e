"""Clients that check every answer.

The harness's own load, for verification and for everything where each request counts.

A client asks, reads the whole answer, compares it, and asks again, over one kept connection or a new one each time.
Nothing is retried: what a request came to is what is recorded. It is slower than wrk and exact.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bench.harness.probe import Answer, Outcome, Request, decode_chunks, judge, parse_head
from bench.harness.target import HOST, Launch

__all__ = ["SIGNALS", "Crowd", "Plan", "drive", "errors_of", "run_for"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run early, keeping what it has."""

Watch = Callable[[Answer], None]

# For requests that vary, over all crowds. As long as wrk's numbers, which begin above 100,000,000 (load.lua).
_NUMBERS = itertools.count(10_000_000)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a crowd does.

    `clients` of them, each with a kept connection or (`fresh`) a new one for each request, `pause` seconds between
    requests.
    """

    request: Request
    clients: int = 8
    fresh: bool = False
    timeout: float = 5.0
    pause: float = 0.0


@dataclass(slots=True)
class _Line:
    """One connection and whether an answer came over it already."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: bool = False


async def _open(launch: Launch) -> _Line:
    if launch.unix:
        return _Line(*await asyncio.open_unix_connection(launch.unix))
    return _Line(*await asyncio.open_connection(HOST, launch.port))


@dataclass(frozen=True, slots=True)
class _Reply:
    """A whole answer: its size on the wire, and whether the connection can be used again."""

    status: int
    body: bytes
    size: int
    again: bool


_NOTHING = _Reply(0, b"", 0, again=False)


async def _read(line: _Line) -> _Reply:
    text = await line.reader.readuntil(b"\r\n\r\n")
    head = parse_head(text[:-4])
    if head.chunked:
        raw = b""
        while not raw.endswith(b"0\r\n\r\n"):
            raw += await line.reader.readuntil(b"\r\n")
        return _Reply(head.status, decode_chunks(raw), len(text) + len(raw), not head.close)
    body = await line.reader.read(-1) if head.length is None else await line.reader.readexactly(head.length)
    return _Reply(head.status, body, len(text) + len(body), not head.close and head.length is not None)


def _failure(error: BaseException, line: _Line | None) -> Outcome:
    """Name what went wrong, from the exception and from whether the connection had served before."""
    if isinstance(error, TimeoutError):
        return Outcome.TIMEOUT
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return Outcome.REFUSED
    partial = error.partial if isinstance(error, asyncio.IncompleteReadError) else b""
    if isinstance(error, ValueError) or partial:
        return Outcome.CUT
    if line is not None and line.used:
        return Outcome.STALE
    return Outcome.CLOSED if isinstance(error, asyncio.IncompleteReadError) else Outcome.RESET


class Crowd:
    """All clients of one load. `watch` sees every answer as it comes; counts are kept whether or not anyone watches."""

    def __init__(self, launch: Launch, plan: Plan, watch: Watch | None = None) -> None:
        """Prepare; nothing is sent before `run`."""
        self.launch = launch
        self.plan = plan
        self.outcomes: Counter[Outcome] = Counter()
        self.latencies: list[float] = []
        self.sizes: Counter[int] = Counter()
        self._watch = watch
        self._stopping = False
        # One that does not vary is written once.
        self._bytes = b"" if plan.request.varies else plan.request.encode(close=plan.fresh)

    def stop(self) -> None:
        """Let every client end after the request it is at."""
        self._stopping = True

    async def run(self) -> None:
        """Send until `stop`."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.plan.clients):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        line: _Line | None = None
        while not self._stopping:
            at = time.monotonic()
            try:
                async with asyncio.timeout(self.plan.timeout):
                    if line is not None and line.reader.at_eof():
                        line = None
                    line = line or await _open(self.launch)
                    line.writer.write(self._bytes or self.plan.request.encode(next(_NUMBERS), close=self.plan.fresh))
                    reply = await _read(line)
                outcome = judge(self.plan.request, reply.status, reply.body)
                line.used = True
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                outcome, reply = _failure(error, line), _NOTHING
            took = time.monotonic() - at
            self._note(Answer(outcome, reply.status, reply.body, at=at, took=took, client=number, size=reply.size))
            if line is not None and (self.plan.fresh or not reply.again):
                line.writer.close()
                line = None
            if self.plan.pause or outcome is Outcome.REFUSED:
                # A refused client would spin; 10 ms is what a fast client's next try takes.
                await asyncio.sleep(self.plan.pause or 0.01)
        if line is not None:
            line.writer.close()

    def _note(self, answer: Answer) -> None:
        self.outcomes[answer.outcome] += 1
        if answer.outcome is Outcome.OK:
            self.latencies.append(answer.took)
            self.sizes[answer.size] += 1
        if self._watch:
            self._watch(answer)


def errors_of(outcomes: Iterable[tuple[Outcome, int]]) -> dict[str, int]:
    """Return the failures by name; OK is left out."""
    return {str(outcome): count for outcome, count in outcomes if outcome is not Outcome.OK and count}


def drive(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end; raises KeyboardInterrupt with the name of the signal that ended it before.

    A handler that raises in the middle of the loop may take a callback out of its queue that then never runs, and the
    loop waits for it for ever. So the loop itself takes the signals meanwhile.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hit: list[signal.Signals] = []

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            hit.append(number)
            task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)
        await work

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        if not hit:
            raise
    finally:
        # The loop leaves the system's defaults behind.
        for number, handler in before.items():
            signal.signal(number, handler)
    if hit:
        raise KeyboardInterrupt(hit[0].name)


def run_for(seconds: float, *crowds: Crowd) -> None:
    """Run crowds side by side for a while."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for crowd in crowds:
            loop.call_later(seconds, crowd.stop)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*(crowd.run() for crowd in crowds))

    drive(main())
