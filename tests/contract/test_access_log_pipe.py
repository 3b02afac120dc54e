"""The access log of several workers in one pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.serving.engine.pipes import groups
from tests.support.serving import PATIENCE, Served, bound, start

FOLDER = Path(__file__).parent
WORKERS = 3
REQUESTS = 40


@contextlib.contextmanager
def workers(backend: str, stdout: int) -> Iterator[list[Served]]:
    """Workers on queues of their own, so that each one serves its share, with one standard output."""
    words = ["--backend", backend, "--access-log", "-", "--access-log-format", "<%({x-mark}i)s>"]
    with contextlib.ExitStack() as stack:
        running = []
        for _ in range(WORKERS):
            sock = stack.enter_context(contextlib.closing(bound()))
            worker = start(sock, [*words, "engine_app:app"], folder=FOLDER, stdout=stdout)
            stack.callback(lambda each=worker: each.process.poll() is None and each.process.kill())
            running.append(worker)
        yield running
        for each in running:
            each.signal(signal.SIGTERM)
        assert [each.ended() for each in running] == [0] * WORKERS
        for each in running:
            assert each.process.stderr is not None
            each.process.stderr.close()


def ask(worker: Served, mark: str) -> None:
    """Requests of which each leaves a line: some that many fit into a write, some that no write takes at once."""
    with contextlib.closing(worker.connect()) as client:
        for number in range(REQUESTS):
            client.request("GET", "/", headers={"X-Mark": mark * (7500 if number % 3 == 0 else 900)})
            client.getresponse().read()


@pytest.mark.parametrize("backend", ["sync", "threads"])
def test_lines_of_several_workers_in_one_pipe_are_whole(backend: str) -> None:
    reader, writer = os.pipe()
    received = bytearray()

    def read() -> None:
        # In small pieces, so that the pipe is full most of the time and writes are cut where they can be.
        while part := os.read(reader, 1000):
            received.extend(part)

    listening = threading.Thread(target=read)
    listening.start()
    try:
        with workers(backend, writer) as running:
            clients = [
                threading.Thread(target=ask, args=(each, mark)) for each, mark in zip(running, "abc", strict=True)
            ]
            for each in clients:
                each.start()
            for each in clients:
                each.join(PATIENCE)
    finally:
        os.close(writer)
        listening.join(PATIENCE)
        os.close(reader)
    lines = received.decode().splitlines()
    assert len(lines) == WORKERS * REQUESTS
    for line in lines:
        assert line[0] + line[-1] == "<>" and len(set(line[1:-1])) == 1
        assert len(line) in (902, 7502)


@pytest.mark.parametrize(
    "sizes", [[10], [4095], [4096], [5000, 5000], [2000, 2000, 100], [1, 4095, 1, 9000, 1, 1], [0, 0]]
)
def test_groups_fit_into_one_write_and_lose_nothing(sizes: list[int]) -> None:
    lines = [chr(97 + number) * size for number, size in enumerate(sizes)]
    texts = list(groups(lines))

    assert "\n".join(texts).split("\n") == lines
    for text in texts:
        assert len(text) + 1 <= 4096 or "\n" not in text
