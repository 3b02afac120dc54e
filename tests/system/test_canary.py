"""Deploys that are tried first: canaries that are promoted or rolled back, and broken deploys that change nothing."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running

SLOW = pytest.mark.slow
PATIENCE = 20.0

GOOD = """
import os, time
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"r{number}"]
"""
FAILING = """
def app(environ, start):
    start("500 Oops", [("Content-Length", "2")])
    return [b"r{number}"]
"""
LATE = """
import time
def app(environ, start):
    time.sleep(0.2)
    start("200 OK", [("Content-Length", "2")])
    return [b"r{number}"]
"""
CRASHING = """
import os
def app(environ, start):
    os._exit(3)
"""
LEAKING = """
kept = []
def app(environ, start):
    kept.append(b"x" * 400_000)
    start("200 OK", [("Content-Length", "2")])
    return [b"r{number}"]
"""
STACK = """
[socket:web]
port = 0
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) --keep-alive 0 site_r:app
working_dir = current
use_sockets = True
copy_env = True
numprocesses = {processes}
graceful_timeout = 5
ready_timeout = {ready_timeout}
{more}
"""


class Clients:
    """Clients that ask all the time; `seen` counts the answers by status and release."""

    def __init__(self, address: tuple[str, int], *, clients: int = 4) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self._address = address
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_and_ask) for _ in range(clients)]

    def __enter__(self) -> Clients:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_how: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def _ask_and_ask(self) -> None:
        while not self._over.is_set():
            self.seen[ask(self._address)] += 1

    @property
    def failed(self) -> int:
        """Requests that got no good answer."""
        return sum(count for (status, _), count in self.seen.items() if status != "200")


def ask(address: tuple[str, int]) -> tuple[str, str]:
    """Return status and body of an answer, or why there is none."""
    try:
        with socket.create_connection(address, timeout=PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            found = client.makefile("rb").read().decode()
    except OSError as error:
        return "none", type(error).__name__
    match = re.match(r"HTTP/1.1 (\d+) .*\r\n\r\n(.*)", found, re.DOTALL)
    return (match[1], match[2]) if match else ("none", "closed")


class Place:
    """A folder with releases, the link to the one in force, and the master that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def release(self, text: str, *, switch: bool = True) -> int:
        """Make a release, and let the link lead to it."""
        self.count += 1
        home = self.folder / "releases" / str(self.count)
        home.mkdir(parents=True)
        (home / "site_r.py").write_text(text.replace("{number}", str(self.count)))
        if switch:
            self.switch(self.count)
        return self.count

    def switch(self, number: int) -> None:
        (self.folder / "new").symlink_to(f"releases/{number}")
        (self.folder / "new").rename(self.folder / "current")

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "forkserve.cli.ctl", "--socket", "control.sock", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )

    def generations(self) -> set[tuple[str, str]]:
        """Return the states and generations of all processes, as status shows them."""
        rows = self.ctl("status", "web").stdout.splitlines()[1:]
        return {(row[1], row[4]) for row in (["", *line.split()][-9:] for line in rows if "ready" in line) if row}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.release(GOOD)
    return found


@contextlib.contextmanager
def deployed(place: Place, *, processes: int = 3, ready_timeout: float = 10, more: str = "") -> Iterator[Forkserve]:
    config = STACK.format(processes=processes, ready_timeout=ready_timeout, more=more)
    env = {"PWD": str(place.folder)}
    with running("--control", "control.sock", cwd=place.folder, config=config, env=env) as server:
        server.expect_all(*(rf"web\[{wid}\] pid \d+ is ready" for wid in range(1, processes + 1)))
        yield server


def address_of(server: Forkserve) -> tuple[str, int]:
    found = server.rewound().expect(r"socket web: listening at http://(.*):(\d+)")
    return found[1], int(found[2])


def test_a_good_canary_is_compared_and_promoted(place: Place) -> None:
    with deployed(place) as server, Clients(address_of(server)) as clients:
        place.release(GOOD)
        done = place.ctl("reload", "web", "--canary", "1", "--watch", "1.5")

        assert (done.returncode, done.stdout) == (0, "web: 3 processes replaced\n"), done.stderr
        server.expect(r"web: web\[3\] \(generation 2\) compared with the others for 1.5 s")
        server.expect(r"the canary of generation 2 promoted: \d+ requests, 0.0% answered by 5xx")
        eventually(lambda: ask(address_of(server)) == ("200", "r2"))
    assert clients.failed == 0
    assert clients.seen["200", "r1"] and clients.seen["200", "r2"]


@SLOW
def test_a_canary_that_answers_5xx_is_rolled_back_and_costs_its_share_alone(place: Place) -> None:
    with deployed(place) as server, Clients(address_of(server)) as clients:
        place.release(FAILING)
        done = place.ctl("reload", "web", "--canary", "1", "--watch", "20")

        assert done.returncode == 1
        assert re.search(
            r"reload of web failed, 2 processes kept as before, 1 process put back: the canary is worse: "
            r"100.0% of \d+ requests answered by 5xx, 0.0% before",
            done.stderr,
        ), done.stderr
        server.allow("reload of web failed")
        after = clients.seen["500", "r2"]
        eventually(lambda: clients.seen["200", "r1"] > 500)
        assert clients.seen["500", "r2"] - after <= 4, "requests that were in flight"
    assert set(clients.seen) == {("200", "r1"), ("500", "r2")}
