"""The verbs of forkservectl that print line after line, and with -f go on: events, and output of processes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from forkserve.cli.ending import say, tell
from forkserve.cli.readers import WhileRead
from forkserve.control.client import ControlClient
from forkserve.control.printable import printable
from forkserve.errors import ControlError

__all__ = ["KEPT_EVENTS", "print_events", "print_logs", "safe"]

KEPT_EVENTS = 1000
"""Events that are requested by default: all that are kept."""
_LINES_BEFORE = 10
"""Lines that are shown before new ones, as by tail(1)."""


def print_events(client: ControlClient, arguments: argparse.Namespace) -> None:
    """Print events as they arrive."""
    last = arguments.lines if arguments.lines is not None else 0 if arguments.follow else KEPT_EVENTS
    with WhileRead(client):
        for event in client.follow("events", watcher=arguments.watcher, follow=arguments.follow, last=last):
            text = json.dumps(event) if arguments.json else f"{event['kind']:<17} {printable(event['text'])}"
            say(f"{text}\n" if arguments.json else f"{_when(event['time'])} {text}\n")


def print_logs(client: ControlClient, arguments: argparse.Namespace) -> None:
    """Print the output of processes, with -f new output too, prefixed by the name of the process."""
    last = arguments.lines if arguments.lines is not None else _LINES_BEFORE if arguments.follow else None
    is_empty = True
    with WhileRead(client):
        for line in client.follow("logs", target=arguments.target, follow=arguments.follow, last=last):
            is_empty = False
            say(_of_output(line, arguments))
        if is_empty and not arguments.follow and last != 0:
            tell(f"forkservectl: no output of {arguments.target or 'any process'} is kept\n")
        if arguments.follow:
            raise ControlError("no more output comes: forkserve has ended, or replaces what writes its logs")


def _of_output(line: Mapping[str, Any], arguments: argparse.Namespace) -> str:
    if arguments.json:
        return f"{json.dumps(line)}\n"
    is_one = arguments.target is not None and arguments.target.endswith("]")
    text = str(line["text"]).removesuffix("\r")
    text = text if arguments.raw else safe(text)
    parts = [_when(line["time"])] * bool(arguments.time) + [printable(line["name"])] * (not is_one)
    return f"{' '.join(parts)} | {text}\n" if parts else f"{text}\n"


def safe(text: str) -> str:
    """Return a line of output made safe for a terminal: tabs stay, other control characters are escaped."""
    return "\t".join(map(printable, text.split("\t"))).replace("\n", "\\n")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
