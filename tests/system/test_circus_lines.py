"""The lines of circusctl that people type, by the real one: what circusd 0.19.0 answers, and where ours differs.

`tests/corpus/circusctl.json` has the lines in order, each with its exit code, output (`~`: an expression) and how many
processes of web, worker, Beat and added watchers run afterwards; `ours` says what is another here, and `why`. The
reasons stand in docs/migrating-from-circus.md.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
import zmq

from tests.support import circusctl_lines
from tests.support.circusing import circusd_like, endpoint
from tests.support.forkserving import eventually

ROOT = Path(__file__).parents[2]
LINES: list[dict[str, Any]] = json.loads((ROOT / "tests" / "corpus" / "circusctl.json").read_text())
WATCHERS = """
[socket:web]
host = 127.0.0.1
port = 0

[watcher:web]
cmd = /bin/sh -c "trap '' HUP USR1; exec sleep 1000" web --fd $(circus.sockets.web)
numprocesses = {web}
use_sockets = True
copy_env = {copy_env}
graceful_timeout = 5
priority = 5

[watcher:worker]
cmd = /bin/sleep 1000
singleton = True

[watcher:Beat]
cmd = /bin/sleep 1000
autostart = False
"""
MASTER = "[circus]\nendpoint = {endpoint}\ncheck_delay = 1\nmulticast_endpoint =\n{more}\n"
COLOUR = re.compile(r"\\u001b\[[\d;]*m")
"""circusctl colours JSON where pygments is installed."""
QUICK = "ready_after = 0.05\n"


def configuration(place: Path, *, web: int = 2, copy_env: str = "True", quick: bool) -> str:
    watchers = WATCHERS.format(web=web, copy_env=copy_env)
    if quick:
        for key in ("copy_env", "singleton", "autostart"):
            watchers = watchers.replace(f"\n{key}", f"\n{QUICK}{key}")
    more = "" if quick else f"pubsub_endpoint = {endpoint(place, 'pubsub')}"
    return MASTER.format(endpoint=endpoint(place), more=more) + watchers


class Lines:
    """The real circusctl at one endpoint, a line after the other."""

    def __init__(self, place: Path) -> None:
        command = [sys.executable, circusctl_lines.__file__]
        self._endpoint = endpoint(place)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, line: str, *, timeout: int) -> dict[str, Any]:
        words = ["--endpoint", self._endpoint, "--timeout", str(timeout), *shlex.split(line)]
        stdin, stdout = _both(self._process)
        stdin.write(json.dumps(words) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(COLOUR.sub("", stdout.readline()))
        return answer

    def answered(self, line: str, *, timeout: int) -> dict[str, Any]:
        """Run a line, again for as long as circusd refuses it because another command is under way."""
        answers: list[dict[str, Any]] = []

        def is_taken() -> bool:
            answers.append(self.run(line, timeout=timeout))
            return "arbiter is already running" not in answers[-1]["err"]

        eventually(is_taken)
        return answers[-1]

    def close(self) -> None:
        stdin, stdout = _both(self._process)
        stdin.close()
        self._process.wait(10)
        stdout.close()


def _both(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


class Counts:
    """How many processes there are, asked by a client of Circus's protocol."""

    def __init__(self, place: Path) -> None:
        self._context = zmq.Context()
        self._place = place
        self._client = self._connect()

    def _connect(self) -> zmq.Socket[bytes]:
        client = self._context.socket(zmq.DEALER)
        client.setsockopt(zmq.LINGER, 0)
        client.setsockopt(zmq.RCVTIMEO, 10_000)
        client.connect(endpoint(self._place))
        return client

    def again(self) -> None:
        """Connect to another daemon."""
        self._client.close()
        self._client = self._connect()

    def ask(self, command: str, **properties: Any) -> Any:
        self._client.send(json.dumps({"command": command, "properties": properties}).encode())
        return json.loads(self._client.recv())

    def pids(self) -> set[int]:
        """Return the processes of web."""
        return set(self.ask("list", name="web").get("pids", ()))

    def now(self) -> list[int]:
        infos = self.ask("stats")["infos"]
        count = {name.lower(): len(processes) for name, processes in infos.items()}
        added = sum(number for name, number in count.items() if name.startswith("extra"))
        return [*(count.get(name, 0) for name in ("web", "worker", "beat")), added]

    def become(self, wanted: list[int], line: str) -> None:
        """Wait until there are as many as wanted after a line."""
        try:
            eventually(lambda: self.now() == wanted)
        except AssertionError:
            raise AssertionError(f"{line}: {self.now()} processes, not {wanted}") from None
        except zmq.Again:
            raise AssertionError(f"{line}: no answer afterwards") from None

    def close(self) -> None:
        self._client.close()
        self._context.term()


def wanted(line: Mapping[str, Any], *, by_us: bool) -> Mapping[str, Any]:
    """Return what a line leads to; what is another with us stands in its place."""
    ours = line.get("ours", {}) if by_us else {}
    replaced = {key.rstrip("~") for key in ours}
    return {**{key: value for key, value in line.items() if key.rstrip("~") not in replaced}, **ours}


def compare(line: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    told = f"{line['line']}: {answer}"

    assert answer["exit"] == line["exit"], told
    for stream in ("out", "err"):
        if f"{stream}~" in line:
            find = re.search if stream == "err" else re.fullmatch
            assert find(line[f"{stream}~"], answer[stream]), told
        else:
            assert answer[stream] == line.get(stream, ""), told


Start = Callable[[], Callable[[], object]]
"""Starts a daemon; returns what waits for its end."""


def drive(place: Path, start: Start, *, by_us: bool) -> None:
    """Run all lines against a daemon that `start` starts, with what has to be done before some of them."""
    lines, counts = Lines(place), Counts(place)
    with contextlib.ExitStack() as stack:
        stack.callback(lines.close)
        stack.callback(counts.close)
        wait = start()
        gone = False
        for each in LINES:
            line = wanted(each, by_us=by_us)
            if line.get("first") == "another daemon":
                (place / "stack.ini").write_text(configuration(place, quick=by_us))
                wait, gone = start(), False
                counts.again()
            elif "first" in line:
                change(place, line["first"], by_us=by_us)
            text = line["line"]
            if "PID" in text:
                text = text.replace("PID", str(counts.ask("list", name="web")["pids"][0]))
            killed = counts.pids() & meant_by(text, counts) if text.startswith("kill web") else set()
            compare(line, lines.answered(text, timeout=1 if gone else 20))
            # circusd takes the graceful_timeout of a kill for a text, and leaves what it has killed marked as stopping;
            # a stop or a restart before it has noticed their end, at its next tick, waits for that in a busy loop
            if killed:
                eventually(lambda killed=killed: not killed & counts.pids())
            if line.get("ends") and not gone:
                wait()
                gone = True
            elif not gone and not by_us and line.get("may hang"):
                # circusd executes its main loop again, and now and then never answers afterwards
                try:
                    counts.become(line["after"], text)
                except AssertionError:
                    wait = start()
                    counts.again()
                    counts.become(line["after"], text)
            elif not gone:
                counts.become(line["after"], text)


def meant_by(kill: str, counts: Counts) -> set[int]:
    """Return the pids that a kill names, or all."""
    words = kill.split()
    return {int(words[2])} if len(words) > 2 and words[2].isdecimal() else counts.pids()


def change(place: Path, what: str, *, by_us: bool) -> None:
    """Write another configuration."""
    copy_env = "nonsense" if what == "a broken file" else "True"
    (place / "stack.ini").write_text(configuration(place, web=3, copy_env=copy_env, quick=by_us))


def test_every_line_has_the_exit_code_and_the_meaning_that_circus_gives_it(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:

        def start() -> Callable[[], object]:
            config = configuration(tmp_path, quick=True).partition("\n")[2].partition("\n")[2]
            master = stack.enter_context(circusd_like(tmp_path, config))
            master.allow("reload refused")
            return master.wait

        drive(tmp_path, start, by_us=True)


def test_every_difference_is_listed_with_its_reason() -> None:
    page = (ROOT / "docs" / "migrating-from-circus.md").read_text()

    for line in LINES:
        if "ours" in line:
            assert line["ours"]["why"] in page, line["line"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_table_is_what_the_real_circusd_answers(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:

        def start() -> Callable[[], object]:
            if not (tmp_path / "stack.ini").exists():
                (tmp_path / "stack.ini").write_text(configuration(tmp_path, quick=False))
            stack.close()  # the one before has ended, or hangs
            return stack.enter_context(circusd(tmp_path)).wait

        drive(tmp_path, start, by_us=False)


@contextlib.contextmanager
def circusd(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the real circusd."""
    command = [str(Path(sys.executable).parent / "circusd"), "stack.ini"]
    with (place / "circusd.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            started = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                for each in started:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
                process.kill()
        process.wait(20)
