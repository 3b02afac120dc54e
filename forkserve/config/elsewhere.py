"""What options of supervisord, systemd, pm2 and web servers are called here: none of these names is an option.

Rules: pure. Without this each would be refused, or in a file of Circus be missed, without advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from forkserve.suggest import nearest

__all__ = ["FREE_KEYS", "SOCKET", "WATCHER", "advice_on"]

FREE_KEYS: Mapping[str, str] = {"user": "uid", "directory": "working_dir", "command": "cmd", "environment": "env.NAME"}
"""Those of a watcher that a plugin of Circus is not likely to read under the same name."""

WATCHER: Mapping[str, str] = {
    **FREE_KEYS,
    "cwd": "working_dir",
    "count": "numprocesses",
    "instances": "numprocesses",
    "workers": "numprocesses",
}
SOCKET: Mapping[str, str] = {"address": "host' and 'port", "bind": "host' and 'port", "listen": "host' and 'port"}


def advice_on(key: str, names: Iterable[str], elsewhere: Mapping[str, str], *, cutoff: float = 0.6) -> str:
    """Return what an unknown key may mean, as the end of a message; "" if nothing is like it."""
    if key in elsewhere:
        return f"; here it is '{elsewhere[key]}'"
    return nearest(key.partition(".")[0], names, cutoff=cutoff)
