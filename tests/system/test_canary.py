"""Deploys that are tried first: canaries that are promoted or rolled back, and broken deploys that change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.forkserving import Forkserve, eventually, running

SLOW = pytest.mark.slow
PATIENCE = 20.0
ALLOWED = ("reload of web failed", "SIGKILL", "killed$", " ERROR ", "^Traceback ")
"""What a broken release and its end put into the log."""

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
    time.sleep(0.15)
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
        return commands.ctl(self.folder, "--socket", "control.sock", *words)


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
    found = server.first(r"socket web: listening at http://(.*):(\d+)")
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


def is_one_generation(place: Place, pids: int) -> bool:
    """Tell whether all processes that there are serve, and are of one generation, as is a zygote."""
    (watcher,) = json.loads(place.ctl("status", "web", "--json").stdout)
    workers = [each for each in watcher["processes"] if not each.get("zygote")]
    generations = [each["generation"] for each in watcher["processes"]]
    zygotes = len(generations) - len(workers)
    return (
        len(workers) == pids
        and zygotes <= 1
        and len(set(generations)) == 1
        and all(each["state"] == "ready" for each in workers)
    )


CANARIES = {
    "5xx": (FAILING, r"100.0% of \d+ requests answered by 5xx, 0.0% before"),
    "slow": (LATE, r"p99 up to [1-9]\d\d ms, up to \d+ ms before"),
    "leaks": (LEAKING, r"\d+ MiB of memory a process, \d+ MiB before"),
    "crashes": (CRASHING, r"web\[3\] pid \d+ |\d crashed of 1"),
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind == "5xx" else SLOW) for kind in CANARIES])
def test_a_canary_that_is_worse_is_rolled_back_and_costs_its_share_alone(place: Place, kind: str) -> None:
    text, reason = CANARIES[kind]
    with deployed(place, more="canary_memory = 1.5\ncanary_requests = 12") as server:
        server.allow(*ALLOWED)
        address = address_of(server)
        with Clients(address) as clients:
            place.release(text)
            done = place.ctl("reload", "web", "--canary", "1", "--watch", "6" if kind == "slow" else "20")
            assert done.returncode == 1, done.stdout
            assert re.search(r"reload of web failed, 2 processes kept as before, 1 process put back: ", done.stderr)
            assert re.search(reason, done.stderr), done.stderr
            eventually(lambda: is_one_generation(place, 3))
        assert {ask(address) for _ in range(50)} == {("200", "r1")}, "what the link names by now is not served"
    if kind in ("slow", "leaks"):
        assert clients.failed == 0
    else:
        assert {release for status, release in clients.seen if status == "200"} == {"r1"}


BROKEN = {
    "import error": ("import nothing_of_this_name\n", ()),
    "factory raises": ("def make():\n    raise RuntimeError('no database')\napp = make()\n", ()),
    "exits": ("import os\nos._exit(7)\n", ()),
    "hangs in import": ("import time\ntime.sleep(60)\n", ()),
    "never ready": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n" + GOOD, ()),
    "crashes on the first request": (CRASHING, ("--canary", "1", "--watch", "20")),
    "leaks": (LEAKING, ("--canary", "1", "--watch", "20")),
    "5xx": (FAILING, ("--canary", "1", "--watch", "20")),
}


@SLOW
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_deploy_ends_with_the_old_code_serving_in_one_generation(place: Place, kind: str) -> None:
    text, words = BROKEN[kind]
    more = "canary_memory = 1.5\ncanary_requests = 30\nmax_surge = 2"
    with deployed(place, ready_timeout=2, more=more) as server:
        server.allow(*ALLOWED)
        address = address_of(server)
        with Clients(address) as clients:
            place.release(text)
            done = place.ctl("reload", "web", *words)
            assert (done.returncode, done.stdout) == (1, "")
            assert "reload of web failed" in done.stderr
            eventually(lambda: is_one_generation(place, 3))
        assert {ask(address) for _ in range(50)} == {("200", "r1")}
    if not words:
        assert set(clients.seen) == {("200", "r1")}


@SLOW
def test_a_rollback_goes_back_to_the_release_that_the_link_named_then(place: Place) -> None:
    with deployed(place, processes=2) as server, Clients(address_of(server), clients=2) as clients:
        address = address_of(server)
        nothing = place.ctl("rollback", "web")
        assert (nothing.returncode, nothing.stdout) == (1, "")
        assert "web: no other command or release is known that was good before" in nothing.stderr

        place.release(GOOD)
        assert place.ctl("reload", "web").returncode == 0
        eventually(lambda: is_one_generation(place, 2))
        assert ask(address) == ("200", "r2")
        done = place.ctl("rollback", "web")
        assert (done.returncode, done.stdout) == (0, "web: 2 processes replaced, back to generation 1\n"), done.stderr
        eventually(lambda: is_one_generation(place, 2))
        assert {ask(address) for _ in range(20)} == {("200", "r1")}

        server.allow("SIGKILL")
        before = [each.pid for each in server.children()]
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: before[0] not in [each.pid for each in server.children()] and is_one_generation(place, 2))
        assert {ask(address) for _ in range(20)} == {("200", "r1")}, "what starts again is what was gone back to"

        assert place.ctl("reload", "web").returncode == 0
        eventually(lambda: is_one_generation(place, 2))
        assert ask(address) == ("200", "r2"), "a reload follows the link again"
        shutil.rmtree(place.folder / "releases" / "1")
        gone = place.ctl("rollback", "web")
        assert gone.returncode == 1
        assert re.search(r"2 processes kept as before: .*releases/1: No such file or directory", gone.stderr), (
            gone.stderr
        )
        assert ask(address) == ("200", "r2")
        server.allow("reload of web failed")
    answered = {answer for answer in clients.seen if answer[0] != "none"}
    assert answered == {("200", "r1"), ("200", "r2")}
    assert clients.failed <= 2, "what the killed worker had in hand"


def test_a_roll_that_fails_half_way_is_put_back_from_the_old_release(place: Place) -> None:
    with deployed(place) as server:
        server.allow(*ALLOWED)
        place.release("import os\nif os.environ['FORKSERVE_WID'] == '2':\n    os._exit(7)\n" + GOOD)
        done = place.ctl("reload", "web")
        assert done.returncode == 1
        assert "2 processes kept as before, 1 process put back: web[2]" in done.stderr
        eventually(lambda: is_one_generation(place, 3))
        assert {ask(address_of(server)) for _ in range(50)} == {("200", "r1")}


def test_wrong_use_is_one_line(place: Place) -> None:
    lines = {
        ("reload", "web", "--canary", "1"): "web has 1 process, a canary of 1 leaves no old process",
        ("reload", "web", "--canary", "0"): "canary",
        ("reload", "--canary", "1"): "a canary is that of one watcher",
        ("reload", "web", "--watch", "3"): "add --canary N",
        (
            "reload",
            "web",
            "--canary",
            "1",
            "--watch",
            "nan",
        ): "argument --watch: expected a number of seconds, got 'nan'",
        ("reload", "web", "--canary", "1", "--watch", "1e9"): "watch: expected float <= 86400",
        ("rollback", "wbe"): "no watcher 'wbe'",
    }
    with deployed(place, processes=1):
        for words, reason in lines.items():
            done = place.ctl(*words)
            assert done.returncode in (1, 2), words
            assert reason in done.stderr
            assert done.stderr.count("\n") == 1
