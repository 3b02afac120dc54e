"""The options of a backend: one frozen slice for each part of it, one field per option.

Rules: as in `model.py`. A backend gets `ServingOptions`, and each part of a backend its own slice. Names are those that
users of Gunicorn, Uvicorn and Chaussette know. Times are seconds, sizes bytes. 0 means no limit where the help says so;
the engine gets the slices with the actual value in place of such a 0 (`effective`).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass, field
from enum import Enum

from forkserve.config.handover import GRACEFUL_TIMEOUT
from forkserve.config.options import option
from forkserve.config.values import (
    at_least,
    between,
    boolean,
    commas,
    forwarded_names,
    header_name,
    integer,
    mapping,
    member,
    one_of,
    root_path,
    seconds,
    size,
)

__all__ = [
    "AccessLogOptions",
    "AsgiOptions",
    "Concurrency",
    "HttpLimits",
    "LifespanMode",
    "Lifetime",
    "Parser",
    "ParserOptions",
    "ProxyOptions",
    "ProxyProtocol",
    "ServingOptions",
    "StaticOptions",
    "Timeouts",
    "TlsOptions",
]


COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
"""The access log's format in Gunicorn's atoms; Apache calls it combined."""
LINE = 8190
"""RFC 9112 section 3 asks for 8000 bytes of a request line at least; Gunicorn and Apache have this for each line."""


class LifespanMode(Enum):
    """Whether the lifespan of an ASGI application runs; `auto` goes on without if the application has none."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Parser(Enum):
    """What parses the header fields of requests: llhttp and our own C, or h11, which is pure Python."""

    AUTO = "auto"
    C = "c"
    H11 = "h11"


class ProxyProtocol(Enum):
    """Which PROXY protocol header every connection begins with."""

    OFF = "off"
    V1 = "v1"
    V2 = "v2"
    AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """Requests that run at once."""

    threads: int = option(
        1, "Threads that run the application.", parse=integer, check=at_least(1), cli=("--threads",), metavar="N"
    )
    spawn: int = option(
        0,
        "Most greenlets at once; further requests wait; 0 for no limit.",
        parse=integer,
        check=at_least(0),
        cli=("--spawn", "--worker-connections"),
        metavar="N",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Limits of a request; more is refused with 414, 431 or 413 as soon as it arrives."""

    limit_request_line: int = option(
        LINE, "Bytes of a request line; 0 for as many as --limit-request-head.", parse=size, check=between(0, 65536),
        cli=("--limit-request-line",), metavar="BYTES",
    )  # fmt: skip
    limit_request_fields: int = option(
        100, "Header fields of a request.", parse=integer, check=between(1, 32768), cli=("--limit-request-fields",),
        metavar="N",
    )  # fmt: skip
    limit_request_field_size: int = option(
        LINE, "Bytes of one header field; 0 for as many as --limit-request-head.", parse=size, check=at_least(0),
        cli=("--limit-request-field-size", "--limit-request-field_size"), metavar="BYTES",
    )  # fmt: skip
    limit_request_head: int = option(
        65536, "Bytes of a request's whole head.", parse=size, check=at_least(1024), cli=("--limit-request-head",),
        metavar="BYTES",
    )  # fmt: skip
    max_body: int = option(
        1 << 30, "Bytes of a request's body; 0 for no limit.", parse=size, check=at_least(0),
        cli=("--max-body", "--limit-request-body"), metavar="BYTES",
    )  # fmt: skip
    max_connections: int | None = option(
        None, "Connections of a worker; by default three quarters of its descriptors (ulimit -n). 0 for no limit.",
        parse=integer, check=at_least(0), cli=("--max-connections",), metavar="N",
    )  # fmt: skip
    request_memory: int = option(
        64 << 20, "Bytes of unfinished requests that a worker keeps in memory; beyond that, bodies go to files, then "
        "requests are refused with 503. 0 for no limit.",
        parse=size, check=at_least(0), cli=("--request-memory",), metavar="BYTES",
    )  # fmt: skip
    body_in_memory: int = option(
        1 << 20, "Bytes of a body kept in memory; more goes to a temporary file.", parse=size, check=at_least(0),
        cli=("--body-in-memory",), metavar="BYTES",
    )  # fmt: skip

    def effective(self) -> HttpLimits:
        """Return them with the actual value in place of each 0, so that they can be compared with."""
        return dataclasses.replace(
            self,
            limit_request_line=self.limit_request_line or self.limit_request_head,
            limit_request_field_size=self.limit_request_field_size or self.limit_request_head,
            max_body=self.max_body or sys.maxsize,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserOptions:
    """Parser of requests."""

    parser: Parser = option(
        Parser.AUTO,
        "Parser of requests: c (compiled), or h11 (Python, slower, same verdicts); auto is c if it can be imported and "
        "FORKSERVE_PURE is not set, else h11.",
        parse=member(Parser),
        cli=("--parser",),
        choices=("auto", "c", "h11"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Time limits."""

    timeout: float = option(
        30.0, "Seconds the application may be silent in a request; 0 for no limit.", parse=seconds, check=at_least(0),
        cli=("-t", "--timeout"), metavar="SECONDS",
    )  # fmt: skip
    graceful_timeout: float = option(
        30.0,
        "Seconds that requests in flight have to finish after SIGTERM; 0 cuts them at once. Under forkserve the "
        "default is a bit less than the watcher's.",
        parse=seconds, check=at_least(0), cli=("--graceful-timeout", "--timeout-graceful-shutdown"),
        env=GRACEFUL_TIMEOUT, metavar="SECONDS",
    )  # fmt: skip
    keep_alive: float = option(
        75.0, "Seconds an idle connection is kept; 0 closes after each response.", parse=seconds, check=at_least(0),
        cli=("--keep-alive", "--keepalive", "--timeout-keep-alive"), metavar="SECONDS",
    )  # fmt: skip
    header_timeout: float = option(
        20.0, "Seconds a client has to send a request's head; 0 for no limit.", parse=seconds, check=at_least(0),
        cli=("--header-timeout",), metavar="SECONDS",
    )  # fmt: skip
    body_timeout: float = option(
        30.0, "Seconds a client may be silent within a body; 0 for no limit.", parse=seconds, check=at_least(0),
        cli=("--body-timeout",), metavar="SECONDS",
    )  # fmt: skip
    min_rate: int = option(
        500, "Bytes of a body that must arrive per second, on average, after --body-timeout; 0 for no minimum.",
        parse=size, check=at_least(0), cli=("--min-rate",), metavar="BYTES",
    )  # fmt: skip
    queue_timeout: float = option(
        0.0, "Seconds after which a connection that waited to be accepted gets 503; TCP only; 0 for no limit.",
        parse=seconds, check=at_least(0), cli=("--queue-timeout",), metavar="SECONDS",
    )  # fmt: skip
    write_timeout: float = option(
        60.0, "Seconds a client may read nothing of a response; 0 for no limit.", parse=seconds, check=at_least(0),
        cli=("--write-timeout",), metavar="SECONDS",
    )  # fmt: skip

    def effective(self) -> Timeouts:
        """Return them with infinity for each 0 that means no limit, so that they can be added to an instant.

        A `keep_alive` of 0 keeps no connection, a `graceful_timeout` of 0 waits for no request, and `min_rate` is not a
        time: they stay.
        """
        return dataclasses.replace(
            self,
            timeout=self.timeout or math.inf,
            header_timeout=self.header_timeout or math.inf,
            body_timeout=self.body_timeout or math.inf,
            write_timeout=self.write_timeout or math.inf,
            queue_timeout=self.queue_timeout or math.inf,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What proxies in front of the worker may say about the client."""

    forwarded_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1", "unix"),
        "Addresses and networks whose X-Forwarded-* or Forwarded are trusted, comma-separated; `unix` is any peer of "
        "a unix socket, * every address.",
        parse=commas,
        cli=("--forwarded-allow-ips",),
        env="FORWARDED_ALLOW_IPS",
        metavar="IPS",
    )
    forwarded_style: str = option(
        "x-forwarded", "What the proxies set: X-Forwarded-* or Forwarded (RFC 7239); the other is ignored.",
        check=one_of("x-forwarded", "forwarded"), cli=("--forwarded-style",), choices=("x-forwarded", "forwarded"),
    )  # fmt: skip
    forwarded_fields: tuple[str, ...] = option(
        ("for", "proto"),
        "Which X-Forwarded-* (or parameters of Forwarded) are trusted, of for, proto, host and port. Name only those "
        "that the proxies set, since they pass the others through from the client.",
        parse=forwarded_names,
        cli=("--forwarded-fields",),
        metavar="NAMES",
    )
    proxy_protocol: ProxyProtocol = option(
        ProxyProtocol.OFF, "PROXY protocol header that connections begin with.", parse=member(ProxyProtocol),
        cli=("--proxy-protocol",), choices=("off", "v1", "v2", "auto"), bare="auto",
    )  # fmt: skip
    proxy_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1"), "Addresses that may send a PROXY header.", parse=commas,
        cli=("--proxy-allow-from", "--proxy-allow-ips"), metavar="IPS",
    )  # fmt: skip
    request_id_header: str = option(
        "",
        "Field with the id of a request, e.g. X-Request-ID. A valid id is kept, else that of traceparent is used, or "
        "a new one; application and response get it. Off if not given.",
        parse=header_name,
        cli=("--request-id-header",),
        metavar="NAME",
    )
    root_path: str = option(
        "",
        "Path under which a proxy serves the application, whether or not the proxy strips it (SCRIPT_NAME, root_path).",
        parse=root_path,
        cli=("--root-path",),
        metavar="PATH",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogOptions:
    """The access log."""

    access_log: str | None = option(
        None, "Where requests are logged: - (stdout), a file, or syslog://...; nowhere if not given.",
        cli=("--access-log", "--access-logfile"), metavar="WHERE",
    )  # fmt: skip
    access_log_format: str = option(
        COMBINED, "Gunicorn's atoms, or `json`.",
        cli=("--access-log-format", "--access-logformat"), metavar="FORMAT",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """When a worker ends by itself, gracefully, and is replaced; 0 for never."""

    max_requests: int = option(
        0, "Requests after which the worker ends and is replaced.", parse=integer, check=at_least(0),
        cli=("--max-requests", "--limit-max-requests"), metavar="N",
    )  # fmt: skip
    max_requests_jitter: int = option(
        0, "Add a random number of requests, up to this many, to --max-requests.", parse=integer, check=at_least(0),
        cli=("--max-requests-jitter", "--limit-max-requests-jitter"), metavar="N",
    )  # fmt: skip
    max_lifetime: float = option(
        0.0, "Seconds after which the worker ends and is replaced.", parse=seconds, check=at_least(0),
        cli=("--max-lifetime",), metavar="SECONDS",
    )  # fmt: skip
    max_rss: int = option(
        0, "Resident memory at which the worker ends and is replaced, e.g. 500M.", parse=size, check=at_least(0),
        cli=("--max-rss",), metavar="BYTES",
    )  # fmt: skip
    refork_after: int = option(
        0, "Requests after which a preloaded worker becomes the next zygote, as long as that saves memory.",
        parse=integer, check=at_least(0), cli=("--refork-after",), env="FORKSERVE_REFORK_AFTER", metavar="N",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AsgiOptions:
    """ASGI applications only."""

    lifespan: LifespanMode = option(
        LifespanMode.AUTO, "Run the application's lifespan (startup and shutdown).", parse=member(LifespanMode),
        cli=("--lifespan",), choices=("auto", "on", "off"),
    )  # fmt: skip
    loop: str = option(
        "auto", "Event loop; auto is the faster one: asyncio under asgi, uvloop under others.",
        check=one_of("auto", "asyncio", "uvloop"), cli=("--loop", "--asgi-loop"),
        choices=("auto", "asyncio", "uvloop"),
    )  # fmt: skip
    ws_max_size: int = option(
        16 << 20, "Bytes of a WebSocket message.", parse=size, check=at_least(1), cli=("--ws-max-size",),
        metavar="BYTES",
    )  # fmt: skip
    ws_ping_interval: float = option(
        20.0, "Seconds between pings to a WebSocket's client; 0 for none.", parse=seconds, check=at_least(0),
        cli=("--ws-ping-interval",), metavar="SECONDS",
    )  # fmt: skip
    ws_ping_timeout: float = option(
        20.0, "Seconds that a WebSocket's client has to answer a ping; 0 for no limit.", parse=seconds,
        check=at_least(0), cli=("--ws-ping-timeout",), metavar="SECONDS",
    )  # fmt: skip
    no_ws_compression: bool = option(
        False, "Do not compress WebSocket messages.", parse=boolean, cli=("--no-ws-compression",)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """TLS, if there is a certificate."""

    certfile: str | None = option(
        None, "Certificate chain, PEM; turns TLS on.", cli=("--certfile", "--ssl-certfile"), metavar="FILE"
    )
    keyfile: str | None = option(
        None, "Private key, PEM, if not in the certificate file.", cli=("--keyfile", "--ssl-keyfile"), metavar="FILE"
    )
    ca_certs: str | None = option(
        None, "Authorities for client certificates, PEM; clients must present one.",
        cli=("--ca-certs", "--ssl-ca-certs"), metavar="FILE",
    )  # fmt: skip
    ciphers: str | None = option(None, "OpenSSL cipher list.", cli=("--ciphers", "--ssl-ciphers"), metavar="LIST")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticOptions:
    """Static files, served beside the application."""

    static: tuple[tuple[str, str], ...] = option(
        (), "Serve the files of a folder under a URL; repeatable.", parse=mapping, cli=("--static",),
        metavar="/URL=FOLDER", many=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """All slices of a backend."""

    concurrency: Concurrency = field(default_factory=Concurrency)
    http: HttpLimits = field(default_factory=HttpLimits)
    parser: ParserOptions = field(default_factory=ParserOptions)
    timeouts: Timeouts = field(default_factory=Timeouts)
    proxy: ProxyOptions = field(default_factory=ProxyOptions)
    access_log: AccessLogOptions = field(default_factory=AccessLogOptions)
    lifetime: Lifetime = field(default_factory=Lifetime)
    asgi: AsgiOptions = field(default_factory=AsgiOptions)
    tls: TlsOptions = field(default_factory=TlsOptions)
    static: StaticOptions = field(default_factory=StaticOptions)
