"""A stream of a user's class: it runs in a separate process, which gets the lines through a pipe.

So a class that crashes, hangs or prints affects only its own stream. Each record is `PID stdout LENGTH`, an end of
line, and that many bytes. A process that has ended is started again by the next line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from forkserve.config.model import StreamOptions
from forkserve.unix.prctl import set_death_signal

__all__ = ["ClassSink", "class_key", "record"]

_MODULE = "forkserve.sidecars.stream"
PATIENCE = 2.0
"""Seconds that a process has to write what it got, when nothing more follows."""


def class_key(options: StreamOptions) -> str:
    """Return the key by which two streams share an instance: the same class with the same arguments."""
    return " ".join((options.target, *(f"{key}={value}" for key, value in sorted(options.arguments.items()))))


def record(pid: int, *, is_stderr: bool, line: bytes, ends: bool = True) -> bytes:
    """Return one line, or its beginning, in the form for the process."""
    data = line + b"\n" if ends else line
    return b"%d %s %d\n" % (pid, b"stderr" if is_stderr else b"stdout", len(data)) + data


class ClassSink:
    """The process that runs one class; raises OSError like any sink."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, data: bytes) -> int:
        """Write all of it, since half a record would mean nothing to the next process."""
        if self._process is None:
            self._process = self._begin()
        assert self._process.stdin is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._process.stdin.fileno(), rest) :]
        return len(data)

    def reopen(self) -> None:
        """Let the class reopen its destination."""
        self.close()

    def close(self) -> None:
        """End the process when it has written what it got."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _begin(self) -> subprocess.Popen[bytes]:
        options = self._options
        words = ["--use", options.target]
        words += [word for key, value in options.arguments.items() for word in ("--option", f"{key}={value}")]
        words += [word for folder in options.path for word in ("--path", folder)]
        argv = (sys.executable, "-P", "-m", _MODULE, *words)
        return subprocess.Popen(argv, stdin=subprocess.PIPE, bufsize=0, preexec_fn=_end_with_the_writer)


def _end_with_the_writer() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_death_signal(signal.SIGKILL)
