"""Ids that follow a request through services: X-Request-ID and W3C Trace Context (traceparent).

An id from outside is used only if it is harmless in a log, a header and a shell; else a new one is made. Randomness is
passed in as bytes, so that this stays pure. A server that measures no spans passes a traceparent on unchanged (W3C
Trace Context, section 3.4), so none is written here.
"""

from __future__ import annotations

import re

__all__ = ["request_id", "trace_id"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?").fullmatch


def trace_id(traceparent: str | None) -> str | None:
    """The trace that a traceparent names, 32 hexadecimal digits; None if it is to be ignored (section 3.2.2)."""
    match = _TRACEPARENT((traceparent or "").strip(" \t"))
    if match is None:
        return None
    version, trace, span, more = match.groups()
    if version == "ff" or not trace.strip("0") or not span.strip("0") or (version == "00" and more):
        return None
    return trace


def request_id(received: str | None, traceparent: str | None, random: bytes) -> str:
    """Return the id that came with the request if it is valid, else that of its trace, else 16 random bytes in
    hexadecimal.
    """
    if received is not None and _REQUEST_ID(received):
        return received
    return trace_id(traceparent) or random[:16].hex()
