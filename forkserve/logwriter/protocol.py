"""The protocol between the master and the log writer: JSON in datagrams, descriptors beside it. Pure.

The master sends add (with the read end of a pipe), tell (with the connection of a client that asks for logs), reopen
and close. The writer sends warn, with a line for the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from forkserve.config.model import StreamClass, StreamOptions

__all__ = ["LARGEST", "VERSION", "Captured", "LogOrder", "captured_from", "pack", "unpack"]

VERSION = 3
"""The version of the protocol; a writer goes on when the master is replaced by newer code, and may not know new
words.
"""

LARGEST = 16 * 1024
"""Most bytes of one datagram."""


class LogOrder(Enum):
    """The first word of each datagram."""

    ADD = "add"
    TELL = "tell"
    REOPEN = "reopen"
    CLOSE = "close"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Captured:
    """One output of one process: which process writes it, and its destination.

    `kept` is how many bytes of the last output of its watcher are kept.
    """

    name: str
    pid: int
    is_stderr: bool
    options: StreamOptions
    watcher: str = ""
    kept: int = 0

    def facts(self) -> dict[str, Any]:
        """Return it as JSON values."""
        options = {each.name: getattr(self.options, each.name) for each in fields(self.options)}
        options["kind"] = self.options.kind.value
        if not self.options.as_it_is:  # an older writer does not know the word, and gets none such
            del options["as_it_is"]
        process = {"name": self.name, "pid": self.pid, "watcher": self.watcher, "kept": self.kept}
        return {**process, "is_stderr": self.is_stderr, "options": options}


def captured_from(facts: dict[str, Any]) -> Captured:
    """Return the object from the result of `facts`."""
    options = dict(facts["options"])
    options["kind"] = StreamClass(options["kind"])
    options["path"] = tuple(options.get("path", ()))
    watcher, kept = facts.get("watcher", ""), facts.get("kept", 0)
    return Captured(facts["name"], facts["pid"], facts["is_stderr"], StreamOptions(**options), watcher, kept)


def pack(order: LogOrder, facts: dict[str, Any] | None = None) -> bytes:
    """Return one datagram."""
    return json.dumps([order.value, facts or {}]).encode()


def unpack(data: bytes) -> tuple[LogOrder, dict[str, Any]]:
    """Return the content of one datagram."""
    word, facts = json.loads(data)
    return LogOrder(word), facts
