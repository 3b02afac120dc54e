"""The access log: one line for each answered request, whatever the interface.

Rules: what a request alone decides is formatted once and remembered, for most requests come again. Lines are written
together, a few hundredths of a second late. Off, it does not exist: exchanges that log are a class of their own.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from forkserve.config.serving import AccessLogOptions
from forkserve.errors import UsageError
from forkserve.http.accesslog import AccessRecord, StagedFormat, json_line
from forkserve.http.fields import Fields
from forkserve.http.line import RequestLine
from forkserve.logs import handler_for

__all__ = ["AccessLog"]

MEMORY = 512
"""Requests whose part of the line is remembered."""


class AccessLog:
    """Where lines go, and how they look. `write` may be called from any thread, `flush` by the loop."""

    def __init__(self, options: AccessLogOptions, *, wake: Callable[[], None] | None) -> None:
        """`wake` rouses the loop, where requests end while it waits. Raises UsageError for a bad place or format."""
        where = options.access_log or "-"
        self._handler = logging.StreamHandler(sys.stdout) if where == "-" else handler_for(where, "--access-log")
        self._each = where.startswith("syslog:")
        try:
            self._format = None if options.access_log_format == "json" else StagedFormat(options.access_log_format)
        except ValueError as error:
            raise UsageError(f"--access-log-format: {error}") from None
        self._wake = wake
        self._lock: contextlib.AbstractContextManager[Any] = (
            contextlib.nullcontext() if wake is None else threading.Lock()
        )
        # Clocks are read and heads are taken apart only for formats that tell of them.
        self.timed = self._format is None or re.search(r"%\([TMDL]\)s", options.access_log_format) is not None
        self._heads = "}o)" in options.access_log_format
        # Where only time of day, client and answer vary, lines of one second are often the same.
        varies = re.search(r"\}e\)s|%\(i\)s", options.access_log_format)
        self._repeats = not (self.timed or self._heads or varies)
        self._second = 0
        self._texts: dict[tuple[RequestLine, Fields, str, int, int], str] = {}
        self._templates: dict[tuple[RequestLine, Fields], str] = {}
        self._pid = os.getpid()
        self.lines: list[str] = []
        self._record = AccessRecord("", 0.0, "", "", "", "", "", 0, 0, 0.0, self._pid)

    def write(
        self,
        address: str,
        line: RequestLine,
        fields: Fields,
        answer: tuple[int, int, float, bytes],
        variables: Mapping[str, Any],
    ) -> None:
        """Note an answered request; `answer` is status, bytes of body, instant of the begin (monotonic), head."""
        if self._repeats:
            second = int(time.time())
            if second != self._second:
                self._second = second
                self._texts = {}
            key = (line, fields, address, answer[0], answer[1])
            text = self._texts.get(key)
            if text is not None and self._wake is None:
                self.lines.append(text)
                return
        with self._lock:
            record = self._record
            record.address = address
            record.status, record.size, begun, head = answer
            record.time = time.time()
            if self.timed:
                record.duration = time.monotonic() - begun
                record.time -= record.duration
            record.variables = variables
            if self._heads:
                record.response = _LazyHead(head)
            first = not self.lines
            text = self._line(record, line, fields)
            self.lines.append(text)
            if self._repeats and len(self._texts) < MEMORY:
                self._texts[key] = text
        if first and self._wake is not None:
            self._wake()

    def _line(self, record: AccessRecord, line: RequestLine, fields: Fields) -> str:
        if self._format is None:
            _fill(record, line, fields)
            return json_line(record)
        template = self._templates.get((line, fields))
        if template is None:
            _fill(record, line, fields)
            template = self._format.template(record)
            if len(self._templates) >= MEMORY:
                self._templates.clear()
            self._templates[line, fields] = template
        return self._format.line(template, record)

    def flush(self) -> None:
        """Write what was noted."""
        lines = self.lines[:]
        del self.lines[: len(lines)]
        if lines:
            for text in lines if self._each else ("\n".join(lines),):
                self._handler.handle(logging.LogRecord("access", logging.INFO, "", 0, text, None, None))


class _LazyHead(dict[str, str]):
    """Response fields by lower-case name, read off the head when one is asked for."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def get(self, name: str, default: Any = None) -> Any:
        for line in self._head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return default


def _fill(record: AccessRecord, line: RequestLine, fields: Fields) -> None:
    """Set what the request decides."""
    headers = fields.headers
    if isinstance(headers, dict):
        record.request = {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value for name, value in headers.items()
        }
    else:
        record.request = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    record.method = line.method
    record.target = line.target.decode("latin-1")
    record.path = line.path
    record.query = line.query.decode("latin-1")
    record.protocol = f"HTTP/{line.version}"
    record.user = _user(record.request.get("authorization", ""))


def _header_name(key: str) -> str:
    return key.removeprefix("HTTP_").lower().replace("_", "-")


def _user(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode("utf-8", "replace").partition(":")[0]
    except (binascii.Error, ValueError):
        return ""
