"""Those who read logs are answered by the writer itself, and one that does not read holds nobody up."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.config.model import StreamOptions
from forkserve.logwriter.client import MOST_UNSENT, Streams
from forkserve.logwriter.readers import MOST
from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.descriptors import descriptor
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")
HEAD = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def streams(nothing_left: None) -> Iterator[Streams]:
    streams = Streams()
    yield streams
    pid = streams.close()
    if pid is not None:
        assert os.waitpid(pid, 0)[1] == 0


def run(streams: Streams, script: str, path: Path, *, name: str = "web[1]", kept: int = 65536) -> None:
    """Run a shell script to its end, its output captured in a file."""
    options = StreamOptions(filename=str(path))
    output = streams.open(options, options, kept=kept)
    argv = ("/bin/sh", "-c", script)
    spec = SpawnSpec(argv=argv, env={"PATH": "/usr/bin:/bin"}, stdout=output.stdout_fd, stderr=output.stderr_fd)
    pid = spawn(spec)
    streams.attach(output, name=name, pid=pid, watcher="web")
    os.waitpid(pid, 0)
    streams.forget(pid)


def ask(streams: Streams, **facts: Any) -> socket.socket:
    """Ask as the master does for a client; returns the client's end."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    asked = {"watchers": ["web"], "name": None, "last": None, "follow": False, "head": HEAD, **facts}
    streams.tell(theirs.detach(), asked)
    return ours


def read(connection: socket.socket, until: bytes = b"0\r\n\r\n") -> list[dict[str, Any]]:
    """Return the events of an answer up to a mark, by default its end."""
    data = b""
    while not data.endswith(until) and until not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    assert data.startswith(HEAD.encode())
    return [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]


def asked_until(streams: Streams, text: str) -> list[dict[str, Any]]:
    """Ask again until the writer has taken a line in, and return all that it keeps."""
    for _ in range(1000):
        with ask(streams) as client:
            lines = read(client)
        if any(each["text"] == text for each in lines):
            return lines
    raise AssertionError(f"{text!r} is not kept")


def test_the_last_output_is_told_by_process_and_by_count(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo one; echo two", tmp_path / "log")
    run(streams, r"printf 'caf\303\251 \377\033[1m'; exit 3", tmp_path / "log", name="web[2]")
    lines = asked_until(streams, "café \\xff\x1b[1m")

    assert [each["text"] for each in lines if each["name"] == "web[1]"] == ["one", "two"]
    assert {each["stream"] for each in lines} == {"stdout"}
    for facts, expected in (({"name": "web[1]", "last": 1}, ["two"]), ({"watchers": ["db"]}, []), ({"last": 0}, [])):
        with ask(streams, **facts) as client:
            assert [each["text"] for each in read(client)] == expected


def test_nothing_is_told_of_a_watcher_that_keeps_nothing(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo kept", tmp_path / "log")
    asked_until(streams, "kept")
    run(streams, "echo secret", tmp_path / "log", kept=0)
    with ask(streams) as client:
        assert "secret" not in [each["text"] for each in read(client)]


def test_what_is_written_comes_to_those_who_follow(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo before", tmp_path / "log")
    asked_until(streams, "before")
    with ask(streams, follow=True, last=0) as client:
        assert client.recv(1000) == HEAD.encode()
        run(streams, "echo out; echo err >&2", tmp_path / "log")
        found = b""
        while b'"err"' not in found or b'"out"' not in found:
            found += client.recv(65536)
        assert b"before" not in found


def test_one_that_does_not_read_is_dropped_and_no_process_waits(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo before", tmp_path / "log")
    with ask(streams, follow=True) as idle:
        run(streams, "yes 0123456789 | head -c 6000000", tmp_path / "log")
        size = 0
        while piece := idle.recv(1 << 20):
            size += len(piece)
        assert size < 6_000_000


def test_one_too_many_is_refused_and_those_who_have_gone_make_room(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo before", tmp_path / "log")
    clients = [ask(streams, follow=True) for _ in range(MOST)]
    with ask(streams) as another:
        assert another.recv(1000).startswith(b"HTTP/1.1 503 ")
    for each in clients:
        each.close()
    asked_until_room(streams)


def asked_until_room(streams: Streams) -> None:
    for _ in range(1000):
        with ask(streams) as client:
            if not client.recv(65536).startswith(b"HTTP/1.1 503 "):
                return
    raise AssertionError("nobody has made room")


def test_without_a_writer_the_connection_ends(streams: Streams) -> None:
    assert not streams.can_tell
    with ask(streams) as client:
        assert client.recv(1) == b""


def test_only_so_many_wait_for_a_writer_that_does_not_listen(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo before", tmp_path / "log")
    assert streams.pid is not None
    os.kill(streams.pid, signal.SIGSTOP)
    clients = []
    try:
        while streams.can_tell:
            clients.append(ask(streams))
        assert len(clients) >= MOST_UNSENT
        with ask(streams) as refused:
            assert refused.recv(1) == b""
    finally:
        os.kill(streams.pid, signal.SIGCONT)
        for each in clients:
            each.close()


def test_a_writer_of_before_an_upgrade_is_not_asked(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo before", tmp_path / "log")
    data = streams.to_data()
    del data["speaks"]

    assert not Streams.from_data({**data, "fd": descriptor(-1), "held": {}, "unsent": [], "ended": []}).can_tell
