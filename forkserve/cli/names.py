"""The names that completion offers, from the chosen master and from the declarations of the options."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from forkserve.cli.completing import KindOfName
from forkserve.config.model import SocketOptions, WatcherOptions
from forkserve.config.options import options_of
from forkserve.control.client import ControlClient
from forkserve.control.place import live_sockets
from forkserve.errors import ControlError

__all__ = ["KnownNames"]

PATIENCE = 1.0
"""Seconds that a master has to answer, while the user waits for a completion."""
FRESH = 2.0
"""Seconds for which an answer is reused."""


class KnownNames:
    """Supplies completion; `find` returns the socket of the chosen master, or raises ControlError."""

    def __init__(self, find: Callable[[], Path]) -> None:
        self._find = find
        self._known: dict[str, tuple[float, Any]] = {}

    def __call__(self, names: KindOfName) -> Iterable[str]:
        """Return the names of a kind."""
        if names is KindOfName.WATCHERS:
            return [str(each) for each in self._ask("list")]
        if names is KindOfName.SOCKETS:
            return [str(each["name"]) for each in self._ask("listsockets")]
        if names is KindOfName.INSTANCES:
            return _instances()
        if names is KindOfName.SIGNALS:
            return sorted(each.name.removeprefix("SIG") for each in signal.Signals)
        if names in (KindOfName.OPTIONS, KindOfName.ASSIGNMENTS):
            return [f"{each.name}{'=' * (names is KindOfName.ASSIGNMENTS)}" for each in options_of(WatcherOptions)]
        return [f"{each.name}=" for each in options_of(SocketOptions)] if names is KindOfName.SOCKET_ASSIGNMENTS else ()

    def _ask(self, verb: str) -> Any:
        at, answer = self._known.get(verb, (float("-inf"), None))
        if time.monotonic() - at < FRESH:
            return answer
        try:
            with ControlClient(self._find(), timeout=PATIENCE) as client:
                answer = client.call(verb)
        except ControlError:
            answer = ()
        self._known[verb] = time.monotonic(), answer
        return answer


def _instances() -> Iterable[str]:
    for path in live_sockets():
        try:
            with ControlClient(path, timeout=PATIENCE) as client:
                name = client.call("version").get("name")
        except ControlError:
            continue
        if name:
            yield str(name)
