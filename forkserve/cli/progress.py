"""Reports the progress of a verb while its answer is awaited: a line on stderr whenever something has changed.

Rules: it requests the status over a separate connection, and ignores errors of that.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forkserve.cli.ending import tell
from forkserve.control.client import ControlClient
from forkserve.control.printable import printable_answer
from forkserve.errors import ControlError

__all__ = ["progress", "summary"]

INTERVAL = 1.0
"""Seconds between two looks; what ends before the first one gets no line."""
SOON = 2
"""Looks without news before the first line."""
OFTEN = 5
"""Looks after which a line is repeated of which only times and shares have changed."""


@contextlib.contextmanager
def progress(path: Path, verb: str) -> Iterator[None]:
    """Report progress for the duration of a `with`; `verb` is the awaited one."""
    over = threading.Event()
    teller = threading.Thread(target=_tell_until, args=(over, path, verb), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell_until(over: threading.Event, path: Path, verb: str) -> None:
    said: dict[str, str] = {}
    begun = time.monotonic()
    look = silent_since = 0
    while not over.wait(INTERVAL):
        look += 1
        for watcher in _status(path):
            now, before = summary(watcher), said.get(watcher["name"], "")
            is_news = _without_numbers(now) != _without_numbers(before) or look % OFTEN == 0
            if now and now != before and is_news and not over.is_set():
                tell(f"{watcher['name']}: {now}\n")
                said[watcher["name"]], silent_since = now, look
        # What no watcher is busy with, as an upgrade is tried or a configuration is read, has no words but these.
        if look - silent_since >= (OFTEN if silent_since else SOON) and not over.is_set():
            tell(f"{verb}: not done yet, {time.monotonic() - begun:.0f} s so far\n")
            silent_since = look


def _status(path: Path) -> Any:
    try:
        with ControlClient(path, timeout=INTERVAL) as client:
            return printable_answer(client.call("status"))
    except ControlError:
        return ()


def _without_numbers(text: str) -> str:
    """Return the part of a line that does not change with time; the number of replaced processes is kept."""
    return re.sub(r"\d[\d.]*(?=%| s\b| of \d[\d.]* s\b| requests\b| before)", "", text)


def summary(watcher: Any) -> str:
    """Return what a watcher is still doing; empty when it is settled."""
    if watcher.get("doing"):
        return str(watcher["doing"])
    if watcher.get("timer"):
        return ", ".join(f"run {number} goes on" for number in watcher["timer"]["running"])
    workers = [each for each in watcher["processes"] if not each.get("zygote")]
    states = [(each["state"], each["generation"] < watcher["generation"]) for each in workers]
    new = sum(state == "ready" and not old for state, old in states)
    parts = [
        (sum(state == "spawning" for state, _ in states), "starting"),
        (sum(old and state == "ready" for state, old in states), "old still serving"),
        (sum(state in ("draining", "killing") for state, _ in states), "stopping"),
        (sum(each["state"] == "backoff" for each in watcher["slots"]), "waiting for another try"),
    ]
    busy = [f"{count} {what}" for count, what in parts if count]
    return ", ".join([f"{new} of {watcher['numprocesses']} ready", *busy]) if busy else ""
