"""The access log: one line for each answered request, whatever the interface.

Rules: parts that repeat within a second are formatted once and cached for that second. Lines are written together, a
few hundredths of a second late. If it is off, it costs nothing: logging exchanges have a separate class. There
is no lock: threads share only a list and dictionaries, whose single steps are atomic.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from time import monotonic, time
from typing import Any

from forkserve.config.serving import AccessLogOptions
from forkserve.errors import UsageError
from forkserve.logs import handler_for
from forkserve.serving.engine.pipes import alone, groups, is_pipe
from forkserve.serving.http.accesslog import REMEMBERED, LineFormat, Stem
from forkserve.serving.http.fields import Fields
from forkserve.serving.http.line import RequestLine
from forkserve.serving.native import hot
from forkserve.unix.loghandlers import LineHandler

__all__ = ["AccessLog", "require_format"]

STEMS = 512
"""Kinds of requests (fields and address) of one second that are cached."""


def require_format(text: str) -> LineFormat:
    """Return the parsed format of a text; raises UsageError."""
    try:
        return LineFormat(text, os.getpid())
    except ValueError as error:
        raise UsageError(f"--access-log-format: {error}") from None


class AccessLog:
    """Where lines go, and how they look.

    `write(address, line, fields, status, size)` records an answered request, or if `timed` the same with a sixth
    argument, `(begun, head, variables)`: its start (monotonic), the head of its response, its variables. `write` may be
    called from any thread, `flush` by the loop.
    """

    def __init__(self, options: AccessLogOptions, *, wake: Callable[[], None] | None) -> None:
        """`wake` wakes the loop, if requests end while it waits. Raises UsageError for a bad place or format."""
        where = options.access_log or "-"
        self._handler = handler_for(where, "--access-log", fd=1)
        self._handler.counts = False
        self._each = where.startswith("syslog:")
        self._format = require_format(options.access_log_format)
        self._wake = wake
        self.roused = wake is None
        self._second = 0
        self._stems: dict[tuple[Fields, str, int], Stem] = {}
        self.lines: list[str] = []
        self.timed = bool(self._format.own)
        self.write: Callable[..., None] = self._timed_writer() if self.timed else self._writer()

    def _writer(self) -> Callable[[str, RequestLine, Fields, int, int], None]:
        """Return the function behind `write`; a closure, since it runs with each request."""
        find, append, stem_of = self._stems.get, self.lines.append, self._stem
        if hot is not None:
            writer: Callable[[str, RequestLine, Fields, int, int], None] = hot.Writer(self, find, stem_of, self.lines)
            return writer

        def write(address: str, line: RequestLine, fields: Fields, status: int, size: int) -> None:
            second = int(time())
            stem = find((fields, address, second))
            if stem is None:
                stem = stem_of(fields, address, second)
            append(stem[line, status, size])
            if not self.roused:
                self.rouse()

        return write

    def _timed_writer(self) -> Callable[..., None]:
        find, append, stem_of, own = self._stems.get, self.lines.append, self._stem, self._format.own

        def write(
            address: str,
            line: RequestLine,
            fields: Fields,
            status: int,
            size: int,
            more: tuple[float, bytes, Mapping[str, Any]],
        ) -> None:
            begun, head, variables = more
            duration = monotonic() - begun
            at = time() - duration
            second = int(at)
            stem = find((fields, address, second))
            if stem is None:
                stem = stem_of(fields, address, second)
            one = (at, duration, fields, variables, head)
            append(stem[line, status, size] % tuple([get(one) for get in own]))
            if not self.roused:
                self.rouse()

        return write

    def refused(self, address: str, line: RequestLine, fields: Fields, status: int, size: int) -> None:
        """Record the answer to a request that was refused before an exchange could: it has taken no time."""
        if self.timed:
            self.write(address, line, fields, status, size, (monotonic(), b"", {}))
        else:
            self.write(address, line, fields, status, size)

    def _stem(self, fields: Fields, address: str, second: int) -> Stem:
        if second > self._second or len(self._stems) >= STEMS:
            self._second = max(second, self._second)
            self._stems.clear()
            self._format.left = REMEMBERED
        stem = self._stems[fields, address, second] = self._format.stem(fields, address, second)
        return stem

    def rouse(self) -> None:
        """Make the loop write the lines soon: `roused` is False until then."""
        self.roused = True
        if self._wake is not None:
            self._wake()

    def flush(self) -> None:
        """Write the recorded lines."""
        # Before the lines are taken: a line that is noted after that rouses the loop again.
        self.roused = self._wake is None
        lines = self.lines[:]
        del self.lines[: len(lines)]
        if not lines:
            return
        pipe = _pipe_of(self._handler)
        if pipe is not None:
            with alone(pipe):
                self._put(groups(lines))
        else:
            self._put(lines if self._each else ("\n".join(lines),))

    def close(self) -> None:
        """Write what is left, and close the file; a later line opens it again."""
        self.flush()
        self._handler.close()

    def _put(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._handler.handle(logging.LogRecord("access", logging.INFO, "", 0, text, None, None))


def _pipe_of(handler: LineHandler) -> int | None:
    """Return the descriptor that a handler writes to, if it is a pipe's."""
    with contextlib.suppress(OSError):
        return handler.fd if is_pipe(handler.fd) else None
    return None
