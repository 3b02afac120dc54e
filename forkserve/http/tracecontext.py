"""Ids that follow a request through services: X-Request-ID and W3C Trace Context (traceparent).

An id from outside is taken only if it is harmless in a log, a header and a shell; else a new one is made. Randomness
comes in as bytes, so that this stays pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["TraceParent", "new_traceparent", "parse_traceparent", "request_id"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch


@dataclass(frozen=True, slots=True)
class TraceParent:
    """One traceparent: ids in lower-case hexadecimal."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self, random: bytes) -> TraceParent:
        """The same trace with a span of our own; `random` has 8 bytes."""
        return TraceParent(self.trace_id, _span(random), self.sampled)


def _span(random: bytes) -> str:
    # All zeros is the one id that is not allowed.
    return (random[:8].hex().zfill(16)) if any(random[:8]) else "0" * 15 + "1"


def new_traceparent(random: bytes, *, sampled: bool = False) -> TraceParent:
    """A new trace; `random` has 24 bytes."""
    trace = random[8:24].hex().zfill(32) if any(random[8:24]) else "0" * 31 + "1"
    return TraceParent(trace, _span(random), sampled)


def parse_traceparent(value: str) -> TraceParent | None:
    """Read a traceparent; None if it is to be ignored (W3C Trace Context, section 3.2.2)."""
    match = _TRACEPARENT(value.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or not trace_id.strip("0") or not span_id.strip("0") or (version == "00" and more):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


def request_id(received: str | None, random: bytes) -> str:
    """The id that came with the request if it is a good one, else 16 random bytes in hexadecimal."""
    if received is not None and _REQUEST_ID(received):
        return received
    return random[:16].hex()
