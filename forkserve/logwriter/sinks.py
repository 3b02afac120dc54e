"""Destinations of lines, and the queue before each of them that keeps a slow one from blocking anything.

Each sink has a thread in the writer process, since there is no way to write to a disk that cannot block. Its queue is
bounded. While the sink makes progress, however slowly, a full queue makes its writers wait, as a pipe does. When it has
not taken a byte for a second, or has failed, the oldest lines are dropped and counted, and the count is written in
their place.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logwriter.classes import ClassSink, class_key
from forkserve.logwriter.files import log_file
from forkserve.logwriter.lines import OpenLine
from forkserve.logwriter.syslog import Syslog

__all__ = ["LIMIT", "SinkQueue", "Sink", "destination_of", "is_one_output", "key_of", "merged", "sink_for"]

LIMIT = 1024 * 1024
"""Most bytes that wait for one sink."""

_STUCK = 1.0
"""Seconds without progress after which a sink counts as stuck."""
_RETRY = 1.0
"""Seconds between two tries when writing fails."""
_RECOVERED = 60.0
"""Seconds without a failure after which the next one is reported: a syslog over UDP fails at every other line."""
_BATCH = 64 * 1024


class Sink(Protocol):
    """Takes bytes of whole lines. It is used by one thread alone."""

    def write(self, data: bytes) -> int:
        """Write, and return how many bytes were written; raises OSError."""

    def reopen(self) -> None:
        """Open the destination again at the next write."""

    def close(self) -> None:
        """Release everything."""


class _Standard:
    """The standard output or error of the master, which the writer shares.

    pipe(7) takes up to PIPE_BUF bytes at once or not at all. Of more, a slow reader would get a part, and what another
    process writes to the pipe, such as the master's log, in the middle of a line.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)

    def write(self, data: bytes) -> int:
        if self._is_pipe and len(data) > select.PIPE_BUF:
            whole = data.rfind(b"\n", 0, select.PIPE_BUF) + 1 or data.find(b"\n") + 1
            data = data[: whole or len(data)]
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # another process that shares the terminal or pipe made it non-blocking
            select.select((), (self._fd,), ())
            return 0

    def reopen(self) -> None:
        """Do nothing: it has no name by which it could be reopened."""

    close = reopen


_AS_IT_IS = " as it is"
_STANDARD_NAMES = {
    f"{place}{name}": stream
    for stream, number in (("stdout", 1), ("stderr", 2))
    for place, name in (("/dev/", stream), ("/dev/fd/", number), ("/proc/self/fd/", number))
}
"""Files that are a standard stream: opened by their names they would have another offset, and lines would be lost."""


def key_of(options: StreamOptions) -> tuple[str, str]:
    """Return the key by which two streams share a sink: the same file, the same stdout, the same syslog."""
    if options.as_it_is:  # apart from a sink that drops lines
        return (("stderr" if options.kind is StreamClass.STDERR else "stdout") + _AS_IT_IS, "")
    if options.kind is StreamClass.STDERR:
        return ("stderr", "")
    if options.kind in (StreamClass.STDOUT, StreamClass.FANCY_STDOUT):
        return ("stdout", "")
    if options.kind is StreamClass.FOREIGN:
        return ("class", class_key(options))
    if options.kind is StreamClass.SYSLOG:
        return ("syslog", options.address)
    place = os.path.abspath(options.filename or os.devnull)
    return (_STANDARD_NAMES[place], "") if place in _STANDARD_NAMES else ("file", place)


def is_one_output() -> bool:
    """Tell whether stdout and stderr are one file, as with `2>&1` or on a terminal."""
    out, err = os.fstat(1), os.fstat(2)
    return os.path.samestat(out, err) and fcntl.fcntl(1, fcntl.F_GETFL) == fcntl.fcntl(2, fcntl.F_GETFL)


def merged(key: tuple[str, str]) -> tuple[str, str]:
    """Return the key of the stream to stdout for that to stderr, and any other as it is."""
    return (key[0].replace("stderr", "stdout", 1), key[1]) if key[0].startswith("stderr") else key


def destination_of(key: tuple[str, str]) -> tuple[str, str]:
    """Return what two sinks with the same destination have in common."""
    return (key[0].removesuffix(_AS_IT_IS), key[1])


def sink_for(options: StreamOptions, report: Callable[[str], None]) -> Sink:
    """Return a new sink, opened by its first write; `report` is called with where lines go instead meanwhile."""
    kind, place = key_of(options)
    if kind.startswith(("stdout", "stderr")):
        return _Standard(1 if kind.startswith("stdout") else 2)
    if kind == "class":
        return ClassSink(options)
    return Syslog(place) if kind == "syslog" else log_file(options, place, report)


class SinkQueue:
    """The lines that wait for one sink, and the thread that writes them.

    `place` names the sink in messages; `report` is called, in the thread, with one line when writing begins to fail.
    Queues of the same destination share `open_line`.
    """

    def __init__(
        self, sink: Sink, place: str, report: Callable[[str], None], *, open_line: OpenLine, limit: int = LIMIT
    ) -> None:
        self._sink = sink
        self._place = place
        self._report = report
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._open = open_line
        self._progress = time.monotonic()
        self._changed = threading.Condition()
        self._reopen = self._closed = self._failing = False
        self._silent_until = 0.0
        self._thread = threading.Thread(target=self._run, name=place, daemon=True)
        self._thread.start()

    def is_left_open_by(self, writer: object) -> bool:
        """Tell whether the last line of the destination has no end, and was put by this writer."""
        return self._open.is_of(writer)

    def put(self, lines: list[bytes], writer: object = None, *, ends: bool = True) -> None:
        """Queue lines, each with its end; never waits for the sink. Without `ends` the last one has no end yet."""
        with self._changed:
            for line in self._open.put(lines, writer, ends=ends):
                self._lines.append(line)
                self._size += len(line)
            while self._size > self._limit and len(self._lines) > 1:
                self._size -= len(self._lines.popleft())
                self._dropped += 1
            self._changed.notify()

    def wants_a_pause(self, *, patiently: bool = False) -> bool:
        """True while it is half full of lines being written: producers should wait, `patiently` for a stuck sink, too.

        A sink that fails is waited for by none.
        """
        with self._changed:
            is_stuck = self._failing or (not patiently and time.monotonic() - self._progress > _STUCK)
            return self._size > self._limit // 2 and not is_stuck

    def reopen(self) -> None:
        """Let the sink reopen its destination before the next write."""
        with self._changed:
            self._reopen = True
            if not isinstance(self._sink, _Standard):
                self._open.forget()
            self._changed.notify()

    def close(self) -> None:
        """Let the thread end when everything is written, or at the first failure."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the thread, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._write(batch)
        self._sink.close()

    def _next(self) -> bytes | None:
        """Wait for lines and return some of them, or None if there will be no more."""
        with self._changed:
            while not (self._lines or self._closed or self._reopen):
                self._changed.wait()
            reopen, self._reopen = self._reopen, False
            batch = self._take()
            self._progress = time.monotonic()
        if reopen:
            self._sink.reopen()
        return None if self._closed and not batch else batch

    def _take(self) -> bytes:
        taken = []
        if self._dropped and self._lines:
            taken.append(
                f"forkserve: {self._dropped} lines dropped here: {self._place} was too slow or full\n".encode()
            )
            self._dropped = 0
        size = 0
        while self._lines and size < _BATCH:
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        self._size -= size
        return b"".join(taken)

    def _write(self, batch: bytes) -> None:
        while batch:
            try:
                batch = batch[self._sink.write(batch) :]
                self._failing = False
                self._progress = time.monotonic()
            except OSError as error:
                self._sink.close()
                if not self._wait_after(error):
                    return

    def _wait_after(self, error: OSError) -> bool:
        """Report it once, wait a while, and return whether to try again."""
        now = time.monotonic()
        is_news, self._silent_until = now >= self._silent_until, now + _RECOVERED
        self._failing = True
        if is_news:
            self._report(f"cannot write to {self._place}: {error.strerror or error}; the oldest lines will be dropped")
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._reopen, _RETRY)
            self._reopen = False
            return not self._closed
