"""The program that runs the hooks of one watcher: `python -m forkserve.sidecars.hooks --channel FD --watcher NAME`.

forkserve starts it, sends a call on the channel, a line of JSON, and reads the answer, another line. It ends with the
channel. Output of a hook goes where the output of forkserve goes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from forkserve import logs
from forkserve.control.client import ControlClient
from forkserve.errors import ExitCode
from forkserve.sidecars.dotted import add_folders, load_dotted
from forkserve.sidecars.hooks.changes import OptionChanges
from forkserve.sidecars.hooks.objects import Control, HookArbiter, HookWatcher
from forkserve.sidecars.program import parser_of
from forkserve.unix.proctitle import set_title

__all__ = ["main"]

log = logging.getLogger("forkserve.hooks")

PATIENCE = 30.0
"""Seconds for an answer of the master to a hook."""


def main() -> int:
    """Answer until the channel ends; returns the exit code."""
    arguments = _parser().parse_args()
    logs.set_up(arguments.log_level, arguments.log_output)
    logs.watch_file()
    set_title(f"forkserve: hooks [{arguments.watcher}]")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client = None if arguments.control is None else ControlClient(arguments.control, timeout=PATIENCE)
    host = _Host(arguments.watcher, Control(client))
    channel = socket.socket(fileno=arguments.channel)
    channel.set_inheritable(False)  # the end of this process is known by its end
    # a master that has ended wants no answer (EPIPE, ECONNRESET)
    with channel, channel.makefile("rb") as questions, suppress(ConnectionError):
        for line in questions:
            answer = json.dumps(host.answer(json.loads(line)), default=str)
            channel.sendall(answer.encode() + b"\n")
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("forkserve-hooks", needs_control=False)
    parser.add_argument("--channel", required=True, type=int)
    parser.add_argument("--watcher", required=True)
    return parser


class _Host:
    def __init__(self, watcher: str, control: Control) -> None:
        self._changes = OptionChanges()
        self._watcher = HookWatcher(control, watcher, self._changes)
        self._arbiter = HookArbiter(control)
        self._loaded: dict[str, Callable[..., Any]] = {}

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Call a hook; whatever it raises is reported."""
        hook, details = question["hook"], dict(question["details"])
        stats = details.get("stats")
        self._changes.begin(hook)
        try:
            said = self._call(hook, question["targets"], question["path"], details)
            changes = self._watcher.changed()
        except (Exception, SystemExit) as error:
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            log.error("hooks.%s of %s failed", hook, self._watcher.name, exc_info=True)
            return {"said": False, "error": text}
        finally:
            sys.stdout.flush()
        return {"said": bool(said), "error": "", "stats": stats, "changes": changes}

    def _call(self, hook: str, targets: Mapping[str, str], path: list[str], details: dict[str, Any]) -> Any:
        add_folders(path)
        for name, target in targets.items():
            if target not in self._loaded:
                self._loaded[target] = _load(name, target)
        if hook not in targets:
            return True
        function = self._loaded[targets[hook]]
        if hook == "extended_stats":  # by position, as in Circus
            return function(self._watcher, self._arbiter, hook, **details)
        return function(watcher=self._watcher, arbiter=self._arbiter, hook_name=hook, **details)


def _load(name: str, target: str) -> Callable[..., Any]:
    try:
        found = load_dotted(target)
    except (ImportError, AttributeError) as error:
        raise ImportError(f"cannot import {target} (hooks.{name}): {error}") from error
    if not callable(found):
        raise TypeError(f"{target} (hooks.{name}) is not callable")
    loaded: Callable[..., Any] = found
    return loaded


if __name__ == "__main__":
    os.environ.pop("NOTIFY_SOCKET", None)
    sys.exit(main())
