"""A load that varies sends no request twice: not by wrk's threads, nor by its next start, nor by the clients before."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.harness import wrk
from bench.harness.clients import Crowd, Plan
from bench.harness.probe import NUMBER, Outcome, Request
from bench.harness.scenarios.varied import Varied
from bench.harness.target import HOST, Launch
from tests.support.programs import program

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!"


@dataclass
class Listener:
    """A server that keeps every request it is sent."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                self.bodies.append(await reader.readexactly(int(length[1])) if length else b"")
                self.heads.append(head)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    async with await asyncio.start_server(listener.serve, HOST, 0) as server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener


async def by_the_clients(listener: Listener, request: Request, count: int) -> None:
    crowd = Crowd(Launch("", Path(), port=listener.port), Plan(request), lambda _: enough())

    def enough() -> None:
        if len(listener.heads) >= count:
            crowd.stop()

    await crowd.run()
    assert set(crowd.outcomes) == {Outcome.OK}


async def by_wrk(listener: Listener, request: Request) -> None:
    load = wrk.Load(listener.port, request, connections=8, seconds=1, threads=2)
    result = await asyncio.to_thread(wrk.run, load, [])
    assert result.requests > 100
    assert result.errors == {}


async def clients_and_two_starts_of_wrk(request: Request) -> Listener:
    async with listening() as listener:
        await by_the_clients(listener, request, 100)
        await by_wrk(listener, request)
        await by_wrk(listener, request)
    return listener


@pytest.mark.parametrize(
    "variant", ["short head (WSGI)", pytest.param("browser's head (ASGI)", marks=pytest.mark.slow)]
)
def test_no_two_requests_of_the_scenario_are_alike_in_any_of_their_varying_parts(variant: str) -> None:
    program("wrk")
    request = Varied.works[variant].request
    heads = asyncio.run(clients_and_two_starts_of_wrk(request)).heads
    form = re.escape(request.head()).replace(re.escape(NUMBER), r"(\d+)").encode()
    found = [re.fullmatch(form, head) for head in heads]
    numbers = [set(match.groups()) for match in found if match]
    assert len(numbers) == len(heads)
    assert all(len(each) == 1 for each in numbers)
    assert len(set().union(*numbers)) == len(heads)


def test_a_load_that_does_not_vary_is_the_same_bytes_each_time() -> None:
    program("wrk")
    heads = asyncio.run(clients_and_two_starts_of_wrk(Request("/same"))).heads
    assert {head.partition(b"\r\n")[0] for head in heads} == {b"GET /same HTTP/1.1"}
    # The clients write the host without the port, wrk with it.
    assert len(set(heads)) == 2


def test_a_body_comes_whole_with_heads_that_vary() -> None:
    program("wrk")
    body = b"a" + NUMBER.encode() + b"\x00%s\xff"
    listener = asyncio.run(clients_and_two_starts_of_wrk(Request(f"/{NUMBER}", "POST", body=body)))
    assert len(set(listener.heads)) == len(listener.heads)
    assert set(listener.bodies) == {body}
