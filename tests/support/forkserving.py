"""Runs a real forkserve for a black-box test, and proves afterwards that it has left nothing behind.

Three proofs end every test. Orphans: stderr is a pipe that every descendant inherits, so its end of file says that
nobody has outlived the master; and this process is a subreaper, so whoever has closed stderr would now be our child.
Logs: no ERROR, no traceback and no SIGKILL, but those that the test has announced by `allow`. Time: one deadline each.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from forkserve.supervision.os.loop import LIMIT
from forkserve.supervision.os.proc import Relation, children_of, relations

__all__ = ["Forkserve", "descriptors", "eventually", "running", "scoreboard_of"]

TIMEOUT = 20.0
"""Seconds for anything that a test waits for; far more than it takes, since machines may be busy."""

HELD = "0.05"
"""Seconds that the master's loop may be held by one callback; more is an error in the log, and fails the test."""

_BAD = re.compile(r" (ERROR|CRITICAL) |^Traceback |SIGKILL\b(?! after)|killed$")


class Forkserve:
    """One running master. `expect` goes forward through what it has written, as a reader would."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        launcher: Sequence[str] = (),
    ) -> None:
        self.lines: list[str] = []
        self._read = 0
        self._before_starts = 0
        self._starts: set[int] = set()
        self._rest = b""
        self._allowed: list[re.Pattern[str]] = []
        self._ended = False
        self.stderr, writing = os.pipe2(os.O_CLOEXEC)
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "forkserve", *argv],
            cwd=cwd,
            pass_fds=pass_fds,
            env={**os.environ, LIMIT: HELD, **env},
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,  # at a terminal some signals mean something else
        )
        os.close(writing)

    @property
    def pid(self) -> int:
        """The master's pid."""
        return self.process.pid

    def allow(self, *patterns: str) -> None:
        """Let lines that match pass the log proof."""
        self._allowed += map(re.compile, patterns)

    def expect(self, pattern: str, *, timeout: float = TIMEOUT) -> re.Match[str]:
        """Return the next line that matches, from where the last one was found; fails when none comes."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        while True:
            while self._read < len(self.lines):
                self._read += 1
                found = wanted.search(self.lines[self._read - 1])
                if found:
                    self._before_starts = self._read
                    return found
            if not self._read_more(deadline):
                raise AssertionError(f"no line matches {pattern!r} in\n{self.transcript()}")

    def rewound(self) -> Forkserve:
        """Return itself, with `expect` at the first line again."""
        self._read = self._before_starts = 0
        return self

    def first(self, pattern: str) -> re.Match[str]:
        """Return the first line of all that matches; `expect` stays where it is."""
        place = self._read, self._before_starts
        try:
            return self.rewound().expect(pattern)
        finally:
            self._read, self._before_starts = place

    def expect_all(self, *patterns: str) -> None:
        """Wait for lines that match each pattern, in any order; also beside the starts that were waited for last.

        For what several processes write, or one writes of several: only what causes a line comes before it.
        """
        start = self._before_starts
        furthest = start
        for pattern in patterns:
            self._read = start
            self.expect(pattern)
            furthest = max(furthest, self._read)
        self._read = self._before_starts = furthest

    def send(self, signum: int) -> None:
        """Send the master a signal."""
        self.process.send_signal(signum)

    def children(self) -> list[Relation]:
        """Return the living processes that it supervises, in order of pid, without its companions."""
        # what has the master's own title is on its way to be a companion or a program
        companions = (
            "forkserve: guard",
            "forkserve: hooks",
            "forkserve: keeper",
            "forkserve: log",
            "forkserve: master",
            "forkserve: reading",
            "forkserve: measures",
            "forkserve: probe",
            "forkserve: sampler",
        )
        titles = {each: _title(each.pid) for each in children_of(self.pid)}  # none of one that is just ending
        return [each for each, title in titles.items() if title and not title.startswith(companions)]

    def started(self, name: str) -> int:
        """Wait for the next start of a process such as `web[1]`, and return its pid.

        Starts that are asked for one after another may come in any order: how long exec takes is the kernel's affair.
        """
        wanted = re.compile(rf"{re.escape(name)} pid (\d+) started")
        deadline = time.monotonic() + TIMEOUT
        while True:
            for index in range(self._before_starts, len(self.lines)):
                found = wanted.search(self.lines[index])
                if found and index not in self._starts:
                    self._starts.add(index)
                    self._read = max(self._read, index + 1)
                    return int(found[1])
            if not self._read_more(deadline):
                raise AssertionError(f"{name} does not start in\n{self.transcript()}")

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """End it, wait until all that descends from it has ended, and return its exit code."""
        if self.process.poll() is None:
            self.send(signum)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and that of all its descendants; returns the exit code."""
        deadline = time.monotonic() + TIMEOUT
        while not self._ended:
            if not self._read_more(deadline):
                assert self._ended, f"still running after {TIMEOUT:g} s\n{self.transcript()}"
        return self.process.wait(TIMEOUT)

    def transcript(self) -> str:
        """Return all that it has written."""
        return "\n".join(self.lines)

    def check(self) -> None:
        """Prove that nothing is left of it and that nothing went wrong unannounced."""
        bad = [line for line in self.lines if _BAD.search(line)]
        bad = [line for line in bad if not any(each.search(line) for each in self._allowed)]
        assert not bad, "\n".join(["unexpected in the log:", *bad, "of", self.transcript()])
        eventually(_no_child_is_left)

    def end(self) -> None:
        """Clean up after a test that has failed."""
        for each in _descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.stderr)

    def _read_more(self, deadline: float) -> bool:
        """Read what has come, or wait for it; False at the end of file or of time."""
        left = deadline - time.monotonic()
        if self._ended or left <= 0 or not select.select([self.stderr], [], [], left)[0]:
            return False
        data = os.read(self.stderr, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += (line.decode("utf-8", "replace") for line in lines)
        self._ended = not data
        return bool(data)


@contextlib.contextmanager
def running(
    *argv: str,
    cwd: Path,
    config: str | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    launcher: Sequence[str] = (),
) -> Iterator[Forkserve]:
    """Run forkserve with these arguments, or with a configuration in INI form; ends and checks it.

    `launcher` is a command that executes the one behind it.
    """
    _adopt_orphans(True)
    if config is not None:
        (cwd / "stack.ini").write_text(config)
        argv = ("-c", "stack.ini", *argv)
    server = Forkserve(["--control", "none", *argv], cwd=cwd, pass_fds=pass_fds, env=env or {}, launcher=launcher)
    try:
        yield server
        server.stop()
        server.check()
    finally:
        server.end()
        _adopt_orphans(False)


def _adopt_orphans(wanted: bool) -> None:
    """Become a subreaper (PR_SET_CHILD_SUBREAPER of prctl(2)), or be none any more."""
    assert ctypes.CDLL(None).prctl(36, int(wanted), 0, 0, 0) == 0


def _no_child_is_left() -> bool:
    try:
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.waitpid(found.si_pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def eventually(condition: object, *, timeout: float = TIMEOUT) -> None:
    """Wait until `condition()` is true, for what the kernel shows and no event tells."""
    assert callable(condition)
    deadline = time.monotonic() + timeout
    pause = 0.002
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        select.select([], [], [], pause)
        pause = min(1.2 * pause, 0.05)  # a look may cost as much as what it waits for


def pause(pid: int) -> None:
    """Send SIGSTOP, and wait until the process has stopped: on another processor it may run on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(each.read_text().rpartition(")")[2].split()[0] in "Tt" for each in stats_of(pid)))


def stats_of(pid: int) -> list[Path]:
    """Return the stat files of a process's threads, see proc_pid_stat(5)."""
    return [each / "stat" for each in Path(f"/proc/{pid}/task").iterdir()]


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def scoreboard_of(pid: int) -> int:
    """Open the memory that a process shares with its siblings."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        if "forkserve-scoreboard" in os.readlink(each):
            return os.open(each, os.O_RDWR)
    raise AssertionError("it has no scoreboard")


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _descendants(pid: int) -> list[int]:
    everyone = relations()
    found = [pid]
    for each in found:
        found += [other.pid for other in everyone if other.parent == each]
    return found[1:]
