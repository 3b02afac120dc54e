"""What the backends of the engine share, whichever interface they serve: objects made from their options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from forkserve.config.options import names_of
from forkserve.config.serving import (
    AccessLogOptions,
    HttpLimits,
    Lifetime,
    ParserOptions,
    ProxyOptions,
    ProxyProtocol,
    StaticOptions,
    Timeouts,
    TlsOptions,
)
from forkserve.errors import UsageError
from forkserve.serving.engine.access import AccessLog
from forkserve.serving.engine.listening import Listening
from forkserve.serving.engine.native import Socket
from forkserve.serving.engine.proxy_header import ProxyHeaderRule
from forkserve.serving.engine.wakeup import Wakeup
from forkserve.serving.http.forwarded import Style, TrustedProxies

__all__ = ["HONOURS", "open_access_log", "prepare_listenings", "tls_of", "trusted_by"]

HONOURS = names_of(
    HttpLimits, ParserOptions, Timeouts, ProxyOptions, AccessLogOptions, Lifetime, TlsOptions, StaticOptions
)
"""Options that the engine obeys under every backend."""


def open_access_log(options: AccessLogOptions, wakeup: Wakeup | None) -> AccessLog | None:
    """Return the access log, if there is one; `wakeup` is needed if requests may end while the loop waits.

    Raises UsageError.
    """
    if options.access_log is None:
        return None
    return AccessLog(options, wake=None if wakeup is None else wakeup.ring)


def prepare_listenings(
    listenings: Sequence[Listening], tls: Callable[[Socket], Any] | None, options: ProxyOptions
) -> None:
    """Tell listeners what their connections begin with; raises UsageError."""
    header = header_rule_of(options)
    for listening in listenings:
        listening.tls = tls
        listening.proxy_header = header


def header_rule_of(options: ProxyOptions) -> ProxyHeaderRule | None:
    """Return the rule for PROXY headers, if connections begin with one; raises UsageError."""
    if options.proxy_protocol is ProxyProtocol.OFF:
        return None
    try:
        return ProxyHeaderRule(options.proxy_protocol, TrustedProxies(options.proxy_allow_ips))
    except ValueError as error:
        raise UsageError(f"--proxy-allow-from: {error}") from None


def tls_of(options: TlsOptions) -> Callable[[Socket], Any] | None:
    """Return the function that puts an accepted socket under TLS, if there is a certificate; raises UsageError."""
    if options.certfile is None:
        return None
    # The ssl module costs three megabytes.
    from forkserve.serving.engine.tls import TlsSocket, tls_context

    return functools.partial(TlsSocket, context=tls_context(options))


def trusted_by(options: ProxyOptions) -> tuple[TrustedProxies, Style, frozenset[str]] | None:
    """Return whose forwarding fields are trusted, in which style, and which of them; raises UsageError."""
    if not options.forwarded_allow_ips:
        return None
    try:
        trusted = TrustedProxies(options.forwarded_allow_ips)
    except ValueError as error:
        raise UsageError(f"--forwarded-allow-ips: {error}") from None
    return trusted, Style(options.forwarded_style), frozenset(options.forwarded_fields)
