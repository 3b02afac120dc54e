"""The request line: method, target in its four forms, version (RFC 9112 section 3).

Policy: a method is a token of at most 32 bytes, and case-sensitive. A target is origin-form; absolute-form for http and
https, whose authority then replaces Host (section 3.2.2); `*` for OPTIONS only. CONNECT asks for a tunnel, which an
origin server does not provide: a 2xx would make a proxy in front open one and pass later bytes unseen (501, and closed
like every refusal). No client sends a fragment, or a backslash before the query, and servers disagree on their meaning:
both are refused (RFC 9112 section 3.2). HTTP/1.2 and higher is served as 1.1 (RFC 9110 section 2.5).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from forkserve.serving.http.host import check_host
from forkserve.serving.http.refusal import Refusal

__all__ = ["RequestLine", "parse_line"]

_USUAL = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ((/[!\"$->@-\[\]-~]*)(?:\?([!\"$-~]*))?) HTTP/1\.([0-9])"
).fullmatch
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}").fullmatch
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])").fullmatch
_TARGET = re.compile(rb"[!\"$->@-\[\]-~]*(?:\?[!\"$-~]*)?").fullmatch
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?]*)(.*)").fullmatch


class RequestLine:
    """A valid request line. Shared between requests with the same line: never write to it.

    `method` and `target` as sent; `raw_path` and `query` are the target's parts as sent, without `?`; `path` is
    unquoted, bytes as latin-1 (PEP 3333), `text_path` the same as UTF-8 (ASGI). `version` is "1.0" or "1.1";
    `authority` is the host of an absolute-form target, else None. `environ` has these as WSGI wants them.
    `is_fast_path` is HTTP/1.1 and a method whose response may have a body; `again` becomes true when the line occurs a
    second time.
    """

    __slots__ = (
        "again",
        "authority",
        "environ",
        "method",
        "modern",
        "path",
        "is_fast_path",
        "query",
        "raw_path",
        "scheme",
        "target",
        "version",
    )

    def __init__(self, method: str, target: bytes, parts: tuple[bytes, bytes], modern: bool) -> None:
        self.method = method
        self.target = target
        self.raw_path, self.query = parts
        self.modern = modern
        self.is_fast_path = modern and method != "HEAD"
        self.again = False
        self.version = "1.1" if modern else "1.0"
        self.scheme: bytes | None = None
        self.authority: bytes | None = None
        path = self.raw_path
        self.path = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
        uri = target.decode("latin-1")
        self.environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": self.path,
            "QUERY_STRING": self.query.decode("latin-1"),
            "RAW_URI": uri,
            "REQUEST_URI": uri,
            "SERVER_PROTOCOL": "HTTP/1.1" if modern else "HTTP/1.0",
        }

    def relocate(self, scheme: bytes, authority: bytes) -> None:
        """Apply scheme and host of an absolute-form target."""
        self.scheme = scheme
        self.authority = authority
        self.environ["HTTP_HOST"] = authority.decode("latin-1")

    @property
    def text_path(self) -> str:
        return self.path.encode("latin-1").decode("utf-8", "replace")


def parse_line(line: bytes) -> RequestLine:
    """Parse a request line without its line end; raises Refusal 400, 421, 501 or 505."""
    match = _USUAL(line)
    if match is None:
        return _parse_unusual(line)
    method, target, path, query, version = match.groups()
    if method == b"CONNECT":
        raise Refusal(501, "CONNECT is not served")
    known = _METHODS.get(method) or method.decode("ascii")
    return RequestLine(known, target, (path, query or b""), version != b"0")


def _parse_unusual(line: bytes) -> RequestLine:
    parts = line.split(b" ")
    if len(parts) != 3 or not _METHOD(parts[0]):
        raise Refusal(400, "an invalid request line")
    method, target, version = parts
    # First, as in a line that comes in pieces.
    if not _TARGET(target):
        raise Refusal(400, "an invalid character in the request target")
    match = _VERSION(version)
    if match is None:
        raise Refusal(400, "an invalid request line")
    if match[1] != b"1":
        raise Refusal(505, "a major version of HTTP other than 1")
    if method == b"CONNECT":
        raise Refusal(501, "CONNECT is not served")
    return _other_form(method.decode("ascii"), target, match[2] != b"0")


def _other_form(method: str, target: bytes, modern: bool) -> RequestLine:
    """Parse a target that does not begin with a slash."""
    if target == b"*":
        if method != "OPTIONS":
            raise Refusal(400, "the target * is for OPTIONS only")
        return RequestLine(method, target, (target, b""), modern)
    match = _ABSOLUTE(target)
    if match is None:
        raise Refusal(400, "an invalid request target")
    scheme = match[1].lower()
    if scheme not in (b"http", b"https"):
        raise Refusal(421, "a request target of a foreign scheme")
    authority = check_host(match[2])
    path, _, query = match[3].partition(b"?")
    line = RequestLine(method, target, (path or b"/", query), modern)
    line.relocate(scheme, authority)
    return line
