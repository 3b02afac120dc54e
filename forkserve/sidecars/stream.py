"""The program of a user's stream class: `python -m forkserve.sidecars.stream --use CLASS --option KEY=VALUE`.

The log writer starts it and sends it records (`logwriter.classes`) on standard input. As in Circus, the class is called
with the options as keyword arguments, and its instance with `{"data": bytes, "pid": int, "name": "stdout"}` for each
line; `open` and `close` are called at the start and at the end if they exist.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from forkserve import logs
from forkserve.errors import ExitCode
from forkserve.sidecars.dotted import add_folders, load_dotted
from forkserve.unix.proctitle import set_title

__all__ = ["main", "records"]

log = logging.getLogger("forkserve.streams")

_HEAD = re.compile(rb"(\d+) (stdout|stderr) (\d+)\n")
TOLD_EACH = 60.0
"""Seconds between two tracebacks: a class that fails would fail at each line."""


def main() -> int:
    """Pass lines on until there are no more; returns the exit code."""
    arguments = _parser().parse_args()
    logs.set_up("info", "-")
    set_title(f"forkserve: stream [{arguments.use}]")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what was written before an end is still to be passed on
    add_folders([*arguments.path, os.getcwd()])
    try:
        stream = load_dotted(arguments.use)(**dict(each.split("=", 1) for each in arguments.option))
        _call_if_there(stream, "open")
    except Exception:
        log.exception("the stream %s cannot be created, its lines are lost", arguments.use)
        stream = _lose
    told_at = float("-inf")
    for each in records(sys.stdin.buffer):
        try:
            stream(each)
        except Exception:
            if time.monotonic() - told_at >= TOLD_EACH:
                told_at = time.monotonic()
                log.exception("the stream %s has failed at a line, which is lost", arguments.use)
    _call_if_there(stream, "close")
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="forkserve-stream", allow_abbrev=False)
    parser.add_argument("--use", required=True)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--path", action="append", default=[])
    return parser


def records(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the received lines; a line without a head is from the log writer, about lost lines."""
    while head := source.readline():
        found = _HEAD.fullmatch(head)
        if found is None:
            yield {"data": head, "pid": 0, "name": "stderr"}
            continue
        data = source.read(int(found[3]))
        yield {"data": data, "pid": int(found[1]), "name": found[2].decode()}


def _lose(_line: dict[str, Any]) -> None:
    """Drop a line."""


def _call_if_there(stream: Callable[[dict[str, Any]], Any], name: str) -> None:
    method = getattr(stream, name, None)
    if callable(method):
        method()


if __name__ == "__main__":
    sys.exit(main())
