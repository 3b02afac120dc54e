"""The harness tells a closed WebSocket from a cut one, a whole stream from half of one, and good code from broken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.harness.probe import Answer, Outcome
from bench.harness.scenarios.broken import AT_IMPORT, KINDS, LINK, release
from bench.harness.scenarios.pauses import PAGE, is_page, lost
from bench.harness.scenarios.streams import follow_socket, follow_stream

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\n\r\n"


def followed(said: bytes, *, stream: bool = False) -> str:
    """Return what the client makes of a server that says this and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async def main() -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            if stream:
                return str(await follow_stream(port))
            return (await follow_socket(port, asyncio.Semaphore(0)))[0]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("frames", "end"),
    [
        (b"\x88\x02\x03\xf4", "code 1012"),
        (b"\x89\x00\x88\x09\x03\xe9restart", "code 1001"),
        (b"\x88\x00", "no code"),
        (b"", "cut"),
        (b"\x81\x05he", "cut"),
    ],
)
def test_a_websocket_is_closed_by_a_close_frame_only(frames: bytes, end: str) -> None:
    assert followed(SWITCHED + frames) == end


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (b"a\r\ndata: 39\n\n\r\n0\r\n\r\n", "True"),
        (b"a\r\ndata: 39\n\n\r\n", "False"),
        (b"9\r\ndata: 7\n\n\r\n0\r\n\r\n", "False"),
    ],
)
def test_a_stream_is_whole_with_its_last_event_and_its_last_chunk(body: bytes, whole: str) -> None:
    assert followed(STREAM + body, stream=True) == whole


@pytest.mark.parametrize("kind", ["", *KINDS])
def test_a_release_is_python_and_the_link_leads_to_it(tmp_path: Path, kind: str) -> None:
    release(tmp_path, "one")
    good = (tmp_path / LINK / "deployed.py").read_text()
    release(tmp_path, "two", kind)
    source = (tmp_path / LINK / "deployed.py").read_text()
    compile(source, "deployed.py", "exec")
    assert 'BODY = b"two"' in source
    assert (AT_IMPORT.get(kind, "def answers") in source) and (kind == "") == (source.replace("two", "one") == good)


def test_a_page_counts_where_maintenance_was_ordered_and_as_lost_elsewhere() -> None:
    pages = [Answer(Outcome.STATUS, 503, PAGE, at=at, took=0.1) for at in (1.0, 1.95, 2.5, 3.0, 3.1)]
    assert lost(pages, 2.0, 3.0) == 2
    assert [
        is_page(each) for each in (pages[0], Answer(Outcome.STATUS, 503, b"shed"), Answer(Outcome.OK, 200, PAGE))
    ] == [
        True,
        False,
        False,
    ]
