"""Options of Circus that forkserve accepts and does not serve, each with the reason.

Rule: such an option is named in a warning, so that nobody believes it works. When it comes to be served, its line
moves from here into a declaration in `model.py`.
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
    """Tell whether a value, empty or a word for no, leaves nothing to ignore."""
    try:
        return not text.strip() or not boolean(text)
    except ValueError:
        return False
