"""The source of the reports of `top`: the master, polled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from forkserve.cli.following import safe
from forkserve.cli.top.rows import View, view_of
from forkserve.control.client import ControlClient
from forkserve.control.printable import printable_answer
from forkserve.errors import ControlError

__all__ = ["TopSource"]

PATIENCE = 5.0
"""Seconds that the master has for an answer, while keys wait."""
PSS_INTERVAL = 6.0
"""Seconds between two measurements of PSS, which take milliseconds for each process."""
LAST_LINES = 1000


class TopSource:
    """Polls one master. Each call is a connection: the master may have been replaced in between."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before: Any = None
        self._now: Any = None
        self._pss: dict[int, int] = {}
        self._pss_at = float("-inf")
        self._measured: frozenset[int] = frozenset()

    def poll(self, *, pss: bool = False) -> None:
        """Take another report; raises ControlError."""
        now = time.monotonic()
        # The first report is there at once; one with PSS follows it, and another where a process is new.
        known = {} if self._now is None else _by_pid(self._now)
        wanted = pss or now - self._pss_at >= PSS_INTERVAL or not known.keys() <= self._measured
        wanted = wanted and (pss or self._now is not None)
        report = printable_answer(self._call("top", pss=wanted))
        if wanted:
            found = _by_pid(report)
            self._pss_at, self._measured = now, frozenset(found)
            self._pss = {pid: each["pss"] for pid, each in found.items() if each.get("pss") is not None}
        self._before, self._now = self._now, report

    def view(self, sort: str) -> View | None:
        """Return the view of the last two reports; None before the first."""
        if self._now is None:
            return None
        return view_of(self._now, self._before, pss=self._pss, sort=sort, wall=time.time())

    def logs(self, target: str) -> list[str]:
        """Return the last output of a watcher or a process; raises ControlError."""
        with ControlClient(self._path, timeout=PATIENCE) as client:
            lines = list(client.follow("logs", target=target, last=LAST_LINES))
        one = target.endswith("]")
        return [safe(each["text"]) if one else f"{each['name']} | {safe(each['text'])}" for each in lines]

    def stacks(self, target: str) -> list[str]:
        """Return the stacks of a watcher's processes or of one; raises ControlError."""
        answer = printable_answer(self._call("stacks", target=target))
        return [line for each in answer for line in (f"== {each['name']} pid {each['pid']}", *each["lines"], "")]

    def reload(self, watcher: str) -> str:
        """Start to reload a watcher, and return the answer; raises ControlError."""
        return str(printable_answer(self._call("reload", watcher=watcher, waiting=False))["message"])

    def _call(self, verb: str, **parameters: Any) -> Any:
        patience = None if self._now is None else PATIENCE  # at first there is no screen that would stand still
        with ControlClient(self._path, timeout=patience) as client:
            answer = client.call(verb, **parameters)
        if not isinstance(answer, list | dict):
            raise ControlError("what answers there is not a forkserve of this version")
        return answer


def _by_pid(report: Any) -> dict[int, Any]:
    return {each["pid"]: each for watcher in report["watchers"] for each in watcher["processes"]}
