"""The program of one plugin: `python -m forkserve.sidecars.plugins --name NAME --use CLASS --option KEY=VALUE`.

forkserve runs it as the watcher `plugin:NAME`. It finds the control socket through its parent, unless it is given.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from forkserve import logs
from forkserve.config.plugins import PLUGINS, plugin_options
from forkserve.control.asyncclient import AsyncControlClient
from forkserve.control.place import live_sockets
from forkserve.errors import ConfigError, ExitCode, ForkserveError
from forkserve.sidecars.plugins.base import Plugin
from forkserve.sidecars.plugins.flapping import Flapping
from forkserve.sidecars.plugins.foreign import run_foreign
from forkserve.sidecars.plugins.observers import HttpObserver, RedisObserver
from forkserve.sidecars.plugins.programs import CommandReloader
from forkserve.sidecars.plugins.resources import ResourceWatcher
from forkserve.sidecars.plugins.statistics import FullStats, StatsdEmitter
from forkserve.sidecars.plugins.watchdog import WatchDog
from forkserve.sidecars.program import parser_of
from forkserve.unix.notify import notify
from forkserve.unix.peer import peer_of
from forkserve.unix.proctitle import set_title

__all__ = ["BUILT_IN", "main"]

log = logging.getLogger("forkserve.plugins")

BUILT_IN: Mapping[str, type[Plugin]] = {
    "circus.plugins.command_reloader.CommandReloader": CommandReloader,
    "circus.plugins.flapping.Flapping": Flapping,
    "circus.plugins.http_observer.HttpObserver": HttpObserver,
    "circus.plugins.redis_observer.RedisObserver": RedisObserver,
    "circus.plugins.resource_watcher.ResourceWatcher": ResourceWatcher,
    "circus.plugins.statsd.FullStats": FullStats,
    "circus.plugins.statsd.StatsdEmitter": StatsdEmitter,
    "circus.plugins.watchdog.WatchDog": WatchDog,
}
"""Plugins that forkserve itself implements, by Circus's names."""


def main() -> int:
    """Run a plugin until SIGTERM; returns the exit code."""
    arguments = _parser().parse_args()
    logs.set_up(arguments.log_level, arguments.log_output)
    set_title(f"forkserve: plugin [{arguments.name}]")
    options = dict(each.split("=", 1) for each in arguments.option)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        control = arguments.control or _control_of(os.getppid())
        if arguments.use in PLUGINS:
            plugin = BUILT_IN[arguments.use](AsyncControlClient(control), _parsed(arguments.use, options))
            asyncio.run(_until_sigterm(plugin))
        else:
            endpoints = (arguments.endpoint, arguments.pubsub)
            run_foreign(arguments.use, options, endpoints, control=control, check_delay=arguments.check_delay)
    except ForkserveError as error:
        log.error("plugin %s: %s", arguments.name, error)
        return error.exit_code
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("forkserve-plugin", needs_control=False)
    parser.add_argument("--name", required=True)
    parser.add_argument("--use", required=True)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--endpoint")
    parser.add_argument("--pubsub")
    parser.add_argument("--check-delay", type=float, default=5.0)
    return parser


def _parsed(use: str, options: Mapping[str, str]) -> dict[str, object]:
    try:
        return plugin_options(use, options)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _control_of(pid: int) -> Path:
    """Return the control socket on which a process listens; raises ConfigError."""
    for path in live_sockets():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            if peer_of(probe).pid == pid:
                return path
    raise ConfigError(
        "forkserve runs without a control socket that this user can reach, which a plugin needs (control)"
    )


async def _until_sigterm(plugin: Plugin) -> None:
    task = asyncio.create_task(plugin.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    notify("READY=1")
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    sys.exit(main())
