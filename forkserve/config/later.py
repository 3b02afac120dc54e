"""Options of Circus that forkserve accepts and ignores, each with the reason.

Rule: a warning names such an option, so that no user relies on it. When an option gets supported, its line moves from
here into a declaration in `model.py`.
"""

from __future__ import annotations

from forkserve.config.values import boolean

__all__ = ["ANY_WATCHER_KEY", "MASTER", "STREAM", "WATCHER", "asks_for_nothing"]

_NEVER = "never had an effect in Circus either, ignored"
_WEB = "the circus-web package is for Python 2 only, ignored"

MASTER = {
    "multicast_endpoint": "there is no discovery by multicast, ignored",
    "debug_gc": "sets the collector of circusd, which does not run here, ignored",
    "fqdn_prefix": _NEVER,
    "httpd": _WEB,
    "httpd_host": _WEB,
    "httpd_port": _WEB,
    "statsd_close_outputs": _NEVER,
    "httpd_close_outputs": _NEVER,
    "stream_backend": _NEVER,
}

WATCHER = {
    "check_flapping": _NEVER,
    "env": "has no effect here; use a section [env:NAME]",
}

STREAM = {"refresh_time": _NEVER}

ANY_WATCHER_KEY = ("hooks.", "stdout_stream.", "stderr_stream.", "rlimit_")
"""Prefixes of the open families of keys in a watcher's section."""


def asks_for_nothing(text: str) -> bool:
    """Tell whether a value is empty or means no, so that nothing is ignored."""
    try:
        return not text.strip() or not boolean(text)
    except ValueError:
        return False
