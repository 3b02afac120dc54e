"""The request line: method, target in its four forms, version (RFC 9112 section 3).

Policy: a method is a token of at most 32 bytes, and case counts. A target is origin-form; absolute-form for http and
https, whose authority then replaces Host (section 3.2.2); `*` for OPTIONS only. CONNECT asks for a tunnel, which an
origin server does not give: a 2xx would make a proxy in front open one and pass later bytes unseen (501, and closed
like every refusal). A `#fragment` is never sent by a conforming client; nginx and Gunicorn cut it off, and so do we.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from forkserve.http.host import check_host
from forkserve.http.refusal import Refusal

__all__ = ["RequestLine", "parse_line"]

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}").fullmatch
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_VISIBLE = re.compile(rb"[!-~]+").fullmatch
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^#]*)").match


class RequestLine:
    """A request line that was found good. Shared between requests that have the same one: never write to it.

    `method` and `target` as sent; `raw_path` and `query` are the target's parts as sent, without `?`; `path` is
    unquoted, bytes as latin-1 (PEP 3333), `text_path` the same as UTF-8 (ASGI). `version` is "1.0" or "1.1"; `authority` is the
    host of an absolute-form target, else None. `environ` has these as WSGI wants them.
    """

    __slots__ = ("authority", "environ", "method", "path", "query", "raw_path", "scheme", "target", "version")

    def __init__(self, method: str, target: bytes, version: str) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.scheme, self.authority, origin = (
            (None, None, target) if target[:1] == b"/" else _other_form(method, target)
        )
        path, _, query = origin.partition(b"#")[0].partition(b"?")
        self.raw_path = path
        self.query = query
        self.path = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
        uri = target.decode("latin-1")
        self.environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": self.path,
            "QUERY_STRING": query.decode("latin-1"),
            "RAW_URI": uri,
            "REQUEST_URI": uri,
            "SERVER_PROTOCOL": "HTTP/" + version,
        }
        if self.authority is not None:
            self.environ["HTTP_HOST"] = self.authority.decode("latin-1")

    @property
    def text_path(self) -> str:
        return self.path.encode("latin-1").decode("utf-8", "replace")


def _other_form(method: str, target: bytes) -> tuple[bytes | None, bytes | None, bytes]:
    """Scheme, authority and path of a target that does not begin with a slash; raises Refusal."""
    if target == b"*":
        if method != "OPTIONS":
            raise Refusal(400, "the target * is for OPTIONS only")
        return None, None, target
    match = _ABSOLUTE(target)
    if match is None:
        raise Refusal(400, "an invalid request target")
    scheme = match[1].lower()
    if scheme not in (b"http", b"https"):
        raise Refusal(421, "a request target of a foreign scheme")
    rest = match[3]
    return scheme, check_host(match[2]), rest if rest[:1] == b"/" else b"/" + rest


def parse_line(line: bytes) -> RequestLine:
    """Parse a request line without its line end; raises Refusal 400, 421, 501 or 505."""
    parts = line.split(b" ")
    if len(parts) != 3 or not _METHOD(parts[0]):
        raise Refusal(400, "an invalid request line")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        if _VERSION(version):
            raise Refusal(505, "an HTTP version other than 1.0 and 1.1")
        raise Refusal(400, "an invalid request line")
    if method == b"CONNECT":
        raise Refusal(501, "CONNECT is not served")
    if not _VISIBLE(target):
        raise Refusal(400, "an invalid character in the request target")
    return RequestLine(method.decode("ascii"), target, version[5:].decode("ascii"))
