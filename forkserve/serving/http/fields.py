"""The header fields of a request: those that decide something, and the rest, collected in the shape of the interface.

The meaning of a field is decided here and nowhere else, whichever parser found it. A collector is driven by
`begin`, `on_header` for each field in order, `finish`; it is reused for the next request of any connection.

There are two shapes, since the interfaces differ, each filled in a single pass: WSGI wants `environ["HTTP_X"] = str`
(EnvironCollector), ASGI a list of (lower-case name, value) in bytes (ScopeCollector). A bounded dictionary maps names
from the bytes of a client to those of the interface. Names that decide something are not in it, so ordinary fields pay
nothing for the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.host import check_host
from forkserve.serving.http.line import RequestLine
from forkserve.serving.http.refusal import Refusal

__all__ = ["USUAL_RULES", "Collector", "EnvironCollector", "Fields", "ScopeCollector"]

_LENGTH = re.compile(rb"0|[1-9][0-9]{0,18}").fullmatch
"""Without leading zeros, which some take for octal: RFC 9110 section 8.6 allows them, but no client sends them."""
_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*").fullmatch
_KNOWN_NAMES = 1024
_KNOWN_HOSTS = 256
_COMMON = (
    b"Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control Cookie DNT Forwarded From"
    b" If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Keep-Alive Origin Pragma Priority Range"
    b" Referer Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site"
    b" Sec-Fetch-User Sec-GPC TE Traceparent Tracestate Upgrade-Insecure-Requests User-Agent Via X-Forwarded-For"
    b" X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Real-IP X-Request-ID X-Requested-With"
).split()


class Fields:
    """The header fields of a request. Shared between requests with the same fields: never write to it.

    `headers` is the collector's: a dict of environ keys, or a list of (lower-case name, value) pairs; copy before
    changing. `host` is None only for HTTP/1.0. `content_length` is None without the field, and always with `chunked`.
    `keep_alive` is what the client allows. `expect_continue` asks for a 100 before the body. `upgrade` is the value of
    Upgrade if Connection names it too (RFC 9110 section 7.8), else None. `is_fast_path` is true for a request without a
    body that keeps its connection and needs none of the above. `memo` is for the interface, None at first.
    """

    __slots__ = ("__dict__", "headers", "host", "keep_alive", "memo", "is_fast_path")

    # Defaults of the class instead of slots: most requests then set three attributes, not eight.
    content_length: int | None = None
    chunked = False
    expect_continue = False
    upgrade: bytes | None = None

    def __init__(self, headers: Any, host: bytes | None, keep_alive: bool) -> None:
        self.headers: Any = headers
        self.host = host
        self.keep_alive = self.is_fast_path = keep_alive
        self.memo: Any = None

    @property
    def asks_for_websocket(self) -> bool:
        """Whether the client is about to speak WebSocket after this request (RFC 6455 section 4.1)."""
        protocols = () if self.upgrade is None else self.upgrade.lower().split(b",")
        return any(each.strip(b" \t").partition(b"/")[0] == b"websocket" for each in protocols)


class Collector:
    """The rules common to both shapes; subclasses decide how a field is stored.

    `on_header(name, value)` takes one field as sent and raises Refusal. It is a closure over the tables, not a method:
    it runs for every field, and each attribute look-up of self takes 5 % of its time.
    """

    on_header: Callable[[bytes, bytes], None]
    names: dict[bytes, Any]
    """Maps the names of ordinary fields, as sent, to stored names; grows by what clients send, up to a limit."""
    text_values: ClassVar[bool]
    """Whether values become str."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.hosts: set[bytes] = set()
        self.headers: Any = self._empty()
        self.on_header = self._bind()
        self.is_plain = False
        self.coded = False
        """Whether a transfer coding other than chunked was named: `finish` will refuse it."""
        self._host: bytes | None = None
        self._stays = False
        self._unseen = 0

    def begin(self) -> None:
        """Forget the previous request."""
        self.headers.clear()
        self._host = None
        self._stays = False
        self._unseen = 0
        if not self.is_plain:
            self.is_plain = True
            self._length: int | None = None
            self._chunked = self.coded = False
            self._connection = b""
            self._expect: bytes | None = None
            self._upgrade: bytes | None = None
            self._content_type = False

    def finish(self, line: RequestLine, headers: Any) -> Fields:
        """Return the meaning of the fields for this request line, with `headers` in the collector's shape; raises
        Refusal.
        """
        host = self._host_value(headers)
        modern = line.modern
        if host is None:
            if modern:
                raise Refusal(400, "no Host")
        elif host not in self.hosts:
            check_host(host)
            if len(self.hosts) < _KNOWN_HOSTS and len(host) < 64:
                self.hosts.add(host)
        if line.authority is not None:
            host = line.authority
            self._replace_host(headers, host)
        fields = Fields(headers, host, modern or self._stays)
        if not self.is_plain:
            self._decide(fields, modern)
        return fields

    def count(self) -> int:
        """Return the number of field lines since `begin`."""
        return len(self.headers) + self._unseen

    def _decide(self, fields: Fields, modern: bool) -> None:
        if self._chunked:
            if self._length is not None:
                raise Refusal(400, "Content-Length with Transfer-Encoding")
            if not modern:
                raise Refusal(400, "Transfer-Encoding in HTTP/1.0")
            if self.coded:
                raise Refusal(501, "a transfer coding other than chunked")
        fields.chunked = self._chunked
        fields.content_length = self._length
        options: set[bytes] = set()
        if self._connection:
            options = {option.strip(b" \t") for option in self._connection.lower().split(b",")}
            fields.keep_alive = b"close" not in options and (modern or self._stays or b"keep-alive" in options)
        if modern:
            if self._expect is not None:
                if self._expect.lower() != b"100-continue":
                    raise Refusal(417, "an expectation other than 100-continue")
                fields.expect_continue = True
            if b"upgrade" in options:
                fields.upgrade = self._upgrade
        fields.is_fast_path = fields.keep_alive and not (
            fields.chunked or fields.content_length or fields.expect_continue or fields.upgrade is not None
        )

    def _take_uncommon(self, name: bytes, value: bytes) -> None:
        """Take a field whose name is not among the common ones."""
        lower = name.lower()
        value = value.rstrip()
        rule = _RULES.get(lower)
        if rule is not None:
            if rule(self, value):
                self._store(name, lower, value)
            else:
                self._unseen += 1
        elif b"_" not in lower:
            self._learn(name, lower)
            self._store(name, lower, value)
        else:
            # In an environ X_Y cannot be distinguished from X-Y, which a proxy may have set or removed (CVE-2015-0219).
            self._unseen += 1

    def gather(self, pairs: list[Any]) -> Any:
        """Return headers made from pairs of form and value; None if the fields must be taken one by one."""
        raise NotImplementedError

    def form_of(self, lower: bytes) -> Any:
        """Return the stored name of a field that decides something, from its lower-case name."""
        raise NotImplementedError

    def _host_value(self, headers: Any) -> bytes | None:
        return self._host

    def _on_host(self, value: bytes) -> bool:
        if self._host is not None:
            raise Refusal(400, "two Hosts")
        self._host = value
        return True

    def _on_content_length(self, value: bytes) -> bool:
        self.is_plain = False
        if self._length is not None:
            raise Refusal(400, "two Content-Lengths")
        if not _LENGTH(value):
            raise Refusal(400, "an invalid Content-Length")
        self._length = int(value)
        return True

    def _on_transfer_encoding(self, value: bytes) -> bool:
        self.is_plain = False
        if self._chunked:
            raise Refusal(400, "two Transfer-Encodings")
        coding = value.lower()
        if coding != b"chunked":
            names = [name.strip(b" \t") for name in coding.split(b",")]
            if _TOKENS(coding) and names[-1] == b"chunked" and names.count(b"chunked") == 1:
                # Refused in `_decide`: any 400 goes before it, whichever field comes first.
                self.coded = True
            else:
                raise Refusal(400, "an invalid Transfer-Encoding")
        self._chunked = True
        return True

    def _on_connection(self, value: bytes) -> bool:
        if value in (b"keep-alive", b"Keep-Alive"):
            self._stays = True
        else:
            self.is_plain = False
            self._connection += b"," + value
        return True

    def _on_expect(self, value: bytes) -> bool:
        self.is_plain = False
        self._expect = value if self._expect is None else self._expect + b"," + value
        return True

    def _on_upgrade(self, value: bytes) -> bool:
        self.is_plain = False
        self._upgrade = value if self._upgrade is None else self._upgrade + b"," + value
        return True

    def _on_content_type(self, value: bytes) -> bool:
        self.is_plain = False
        if self._content_type:
            raise Refusal(400, "two Content-Types")
        self._content_type = True
        return True

    def _on_proxy(self, value: bytes) -> bool:
        """Dropped: a CGI-like application would see HTTP_PROXY, which HTTP clients obey (CVE-2016-1000110)."""
        return False

    def _empty(self) -> Any:
        raise NotImplementedError

    def _bind(self) -> Callable[[bytes, bytes], None]:
        raise NotImplementedError

    def _learn(self, name: bytes, lower: bytes) -> None:
        raise NotImplementedError

    def _store(self, name: bytes, lower: bytes, value: bytes) -> None:
        raise NotImplementedError

    def _replace_host(self, headers: Any, host: bytes) -> None:
        raise NotImplementedError


_RULES: dict[bytes, Callable[[Any, bytes], bool]] = {
    b"connection": Collector._on_connection,
    b"content-length": Collector._on_content_length,
    b"content-type": Collector._on_content_type,
    b"expect": Collector._on_expect,
    b"host": Collector._on_host,
    b"proxy": Collector._on_proxy,
    b"transfer-encoding": Collector._on_transfer_encoding,
    b"upgrade": Collector._on_upgrade,
}
"""Decides something by a field; returns True if the application sees it."""

USUAL_RULES = {name: _RULES[name] for name in (b"connection", b"content-length", b"content-type", b"host")}
"""Those of many requests, none of which alone makes the end of a request ambiguous."""


# Both parsers leave of all white space only SP and HTAB in a value, so bytes.rstrip() needs no argument.


def _environ_key(name: bytes) -> str:
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


_RULE_KEYS = {name: _environ_key(name) for name in _RULES}
_USUAL_KEYS = {form: _environ_key(name) for name in (*_COMMON, b"Host") for form in (name, name.lower())}


class EnvironCollector(Collector):
    """Fields as WSGI wants them: `headers` is {"HTTP_ACCEPT": "*/*", ..., "CONTENT_LENGTH": "5"}, values latin-1.

    Repeated fields are joined by a comma, Cookie by `; ` (RFC 9110 section 5.3, RFC 9113 section 8.2.3).
    """

    text_values = True

    def _empty(self) -> dict[str, str]:
        return {}

    def _bind(self) -> Callable[[bytes, bytes], None]:
        # Host is an ordinary field here, since finding it again in a dict costs nothing; `_again` refuses a second.
        keys = self.names = dict(_USUAL_KEYS)
        headers: dict[str, str] = self.headers
        uncommon, again = self._take_uncommon, self._again

        def on_header(name: bytes, value: bytes) -> None:
            key = keys.get(name)
            if key is None:
                uncommon(name, value)
            elif key not in headers:
                headers[key] = value.rstrip().decode("latin-1")
            else:
                again(key, value)

        return on_header

    def gather(self, pairs: list[Any]) -> dict[str, str] | None:
        headers = dict(pairs)
        return headers if len(headers) == len(pairs) else None

    def form_of(self, lower: bytes) -> str:
        return _RULE_KEYS[lower]

    def _host_value(self, headers: Any) -> bytes | None:
        host: str | None = headers.get("HTTP_HOST")
        return None if host is None else host.encode("latin-1")

    def _again(self, key: str, value: bytes) -> None:
        if key == "HTTP_HOST":
            raise Refusal(400, "two Hosts")
        self._unseen += 1
        joint = "; " if key == "HTTP_COOKIE" else ","
        self.headers[key] += joint + value.rstrip().decode("latin-1")

    def _learn(self, name: bytes, lower: bytes) -> None:
        if len(self.names) < _KNOWN_NAMES and len(name) < 64:
            self.names[name] = _environ_key(name)

    def _store(self, name: bytes, lower: bytes, value: bytes) -> None:
        key = _RULE_KEYS.get(lower) or _environ_key(name)
        if key in self.headers:
            self._again(key, value)
        else:
            self.headers[key] = value.decode("latin-1")

    def _replace_host(self, headers: Any, host: bytes) -> None:
        headers["HTTP_HOST"] = host.decode("latin-1")


class ScopeCollector(Collector):
    """Fields as ASGI wants them: `headers` is [(b"accept", b"*/*"), ...], in order, repetitions kept."""

    text_values = False

    def _empty(self) -> list[tuple[bytes, bytes]]:
        return []

    def _bind(self) -> Callable[[bytes, bytes], None]:
        names = self.names = {form: name.lower() for name in _COMMON for form in (name, name.lower())}
        append = self.headers.append
        uncommon = self._take_uncommon

        def on_header(name: bytes, value: bytes) -> None:
            lower = names.get(name)
            if lower is None:
                uncommon(name, value)
            else:
                append((lower, value.rstrip()))

        return on_header

    def gather(self, pairs: list[Any]) -> list[tuple[bytes, bytes]]:
        return pairs

    def form_of(self, lower: bytes) -> bytes:
        return lower

    def _learn(self, name: bytes, lower: bytes) -> None:
        if len(self.names) < _KNOWN_NAMES and len(name) < 64:
            self.names[name] = lower

    def _store(self, name: bytes, lower: bytes, value: bytes) -> None:
        self.headers.append((lower, value))

    def _replace_host(self, headers: Any, host: bytes) -> None:
        headers[:] = [(b"host", host), *(pair for pair in headers if pair[0] != b"host")]
