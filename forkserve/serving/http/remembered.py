"""Header fields line by line: known lines are looked up, the others are cut at their colon.

Most lines of a new head were seen before: a client sends the same fields each time, and only its cookies, or the id
that a proxy adds to each request, are new. So a bounded number of lines is cached with their results. Only the usual is
read here: known names, printable values, one of each. Whatever might be refused, or makes the end of its request
ambiguous, goes through llhttp from the beginning of the block, so that there is a single judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from forkserve.serving.http.fields import USUAL_RULES, Collector
from forkserve.serving.http.llhttp import LlhttpFields
from forkserve.serving.http.refusal import Refusal

__all__ = ["RememberedFields"]

_LINES = 1024
_REMEMBERED_LINE = 256
_SHORT = 256
"""Bytes of a block below which llhttp is as fast. In instructions a head: 27,500 by llhttp and 29,400 here for three
fields with a new one among them, 96,700 and 62,400 for twenty.
"""
_UNUSUAL = Refusal(400, "not usual")


class RememberedFields:
    """Reads a block of fields for a collector, from the cache if possible."""

    __slots__ = ("_collector", "_most", "_pair_of", "_read_all", "_short")
    replaceable: ClassVar[bool] = True

    def __init__(self, collector: Collector, short: int = _SHORT) -> None:
        """Leave blocks of fewer bytes than `short` to llhttp."""
        self._collector = collector
        self._read_all = LlhttpFields(collector).read
        # A bound method of the dictionary itself: a hit runs no Python code.
        self._pair_of: Callable[[bytes], Any] = _Pairs(collector).__getitem__
        self._short = short
        self._most = collector.limits.limit_request_fields

    def read(self, block: bytes) -> Any:
        """Return the headers of the block, which ends with its empty line, in the collector's shape; raises Refusal."""
        if len(block) < self._short:
            return self._read_all(block)
        lines = block[:-4].split(b"\r\n")
        if len(lines) <= self._most:
            try:
                headers = self._collector.gather(list(map(self._pair_of, lines)))
                if headers is not None:
                    return headers
            except Refusal:
                pass
            self._collector.begin()
        return self._read_all(block)


class _Pairs(dict[bytes, Any]):
    """Maps a field line to its pair. Raises Refusal for unusual lines."""

    __slots__ = ("_collector", "_deciding", "_names", "_text")

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._names = collector.names
        self._text = collector.text_values
        self._deciding: dict[bytes, tuple[Callable[[Any, bytes], bool], bytes, Any]] = {}

    def __missing__(self, line: bytes) -> Any:
        name, colon, value = line.partition(b":")
        if not colon:
            raise _UNUSUAL
        form = self._names.get(name)
        if form is None:
            return self._decide(line, name, value)
        value = value.strip(b" ")
        text = value.decode("latin-1")
        # Narrower than RFC 9110 section 5.5 allows (no HTAB, no C1 control), and checked in C.
        if not text.isprintable():
            raise _UNUSUAL
        pair = (form, text if self._text else value)
        if len(line) <= _REMEMBERED_LINE:
            if len(self) >= _LINES:
                self.clear()
            self[line] = pair
        return pair

    def _decide(self, line: bytes, name: bytes, value: bytes) -> Any:
        """Handle a field that decides something, which must be passed on each time."""
        known = self._deciding.get(line)
        if known is None:
            lower = name.lower()
            rule = USUAL_RULES.get(lower)
            value = value.strip(b" ")
            text = value.decode("latin-1")
            if rule is None or not text.isprintable():
                raise _UNUSUAL
            form = self._collector.form_of(lower)
            known = (rule, value, (form, text if self._text else value))
            if len(line) <= _REMEMBERED_LINE:
                if len(self._deciding) >= _LINES:
                    self._deciding.clear()
                self._deciding[line] = known
        rule, value, pair = known
        rule(self._collector, value)
        return pair
