"""Conditional and range requests for a file: which status, and which bytes (RFC 9110 sections 13 and 14).

Order of RFC 9110 section 13.2.2: If-Match or If-Unmodified-Since, then If-None-Match or If-Modified-Since, then Range
with If-Range. Multiple ranges are not served: the whole representation is a valid answer, and multipart is not worth
its cost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from forkserve.serving.http.dates import parse_date

__all__ = ["Conditions", "Selection", "etag_of", "select"]

_ETAG = re.compile(r'[ \t]*,*[ \t]*((?:W/)?"[!#-~\x80-\xff]*")[ \t]*(?=,|\Z)')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE).fullmatch


@dataclass(frozen=True, slots=True)
class Conditions:
    """The relevant fields of a request, as received; None if missing."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None
    range: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Status 200, 206, 304, 412 or 416, and the bytes [start, stop) to send (none for the last three)."""

    status: int
    start: int
    stop: int

    def content_range(self, size: int) -> str | None:
        """The Content-Range field for 206 and 416, else None."""
        if self.status == 206:
            return f"bytes {self.start}-{self.stop - 1}/{size}"
        return f"bytes */{size}" if self.status == 416 else None


def etag_of(mtime_ns: int, size: int) -> str:
    """A strong validator of a file, from its time of change in nanoseconds and its size in bytes."""
    return f'"{mtime_ns:x}-{size:x}"'


def _listed(value: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags contains this one; `*` contains every tag."""
    if value.strip(" \t") == "*":
        return True
    tags, at = [], 0
    while match := _ETAG.match(value, at):
        tags.append(match[1])
        at = match.end()
    if weak:
        return etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in tags]
    return not etag.startswith("W/") and etag in tags


def _changed_since(value: str, modified: int) -> bool | None:
    date = parse_date(value)
    return None if date is None else modified > date


def select(conditions: Conditions, *, method: str, etag: str, modified: int, size: int) -> Selection:
    """Decide for a file with this entity tag, time of change (seconds since the epoch) and size (bytes)."""
    if _precondition_fails(conditions, etag, modified):
        return Selection(412, 0, 0)
    if _not_modified(conditions, etag, modified):
        return Selection(304 if method in ("GET", "HEAD") else 412, 0, 0)
    if method == "GET" and conditions.range is not None and _range_counts(conditions.if_range, etag, modified):
        return _range(conditions.range, size)
    return Selection(200, 0, size)


def _precondition_fails(conditions: Conditions, etag: str, modified: int) -> bool:
    if conditions.if_match is not None:
        return not _listed(conditions.if_match, etag, weak=False)
    if conditions.if_unmodified_since is not None:
        return _changed_since(conditions.if_unmodified_since, modified) is True
    return False


def _not_modified(conditions: Conditions, etag: str, modified: int) -> bool:
    if conditions.if_none_match is not None:
        return _listed(conditions.if_none_match, etag, weak=True)
    if conditions.if_modified_since is not None:
        return _changed_since(conditions.if_modified_since, modified) is False
    return False


def _range_counts(if_range: str | None, etag: str, modified: int) -> bool:
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == etag and not etag.startswith("W/")
    return parse_date(if_range) == modified


def _range(value: str, size: int) -> Selection:
    match = _RANGE(value)
    if match is None or match[1] == match[2] == "":
        return Selection(200, 0, size)
    first, last = (digits.lstrip("0") or digits[:1] for digits in match.groups())
    if first == "":
        start, stop = max(0, size - _number(last)), size
    else:
        if last and (len(last), last) < (len(first), first):
            return Selection(200, 0, size)
        start = _number(first)
        stop = min(size, _number(last) + 1) if last else size
    if start >= stop:
        return Selection(416, 0, 0)
    return Selection(206, start, stop)


def _number(digits: str) -> int:
    """Parse a number of any length, as far as it matters: int() takes 4300 digits, and no file has 10**19 bytes."""
    return int(digits[:20])
