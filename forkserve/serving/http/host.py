"""The host of a request: `uri-host [ ":" port ]` and nothing else (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from forkserve.serving.http.refusal import Refusal

__all__ = ["check_host"]

_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|(?:[A-Za-z0-9._~!$&'()*+;=\-]|%[0-9A-Fa-f]{2}){1,255})(?::([0-9]{0,5}))?"
).fullmatch


def check_host(value: bytes) -> bytes:
    """Return the value if it names one host and possibly a port; raises Refusal 400.

    An empty host is refused although the grammar allows it: an http URI must not have one (RFC 9110 section 4.2.1). A
    comma, though a sub-delim, is refused as the sign of two merged fields.
    """
    match = _HOST(value)
    if match is None or int(match[2] or 0) > 65535:
        raise Refusal(400, "an invalid host")
    if match[1] is not None:
        try:
            IPv6Address(match[1].decode("ascii"))
        except AddressValueError:
            raise Refusal(400, "an invalid host") from None
    return value
