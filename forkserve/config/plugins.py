"""What `[plugin:NAME] use = dotted.Class` runs: a watcher called `plugin:NAME`, as in Circus.

The plugins of Circus are programs of forkserve, with Circus's names and options; any other class is the user's, and
runs with the endpoints that it needs.

Rules: pure; nothing is imported by its name here.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from forkserve.config.document import Findings, Section, Value
from forkserve.config.masteroptions import MasterOptions
from forkserve.config.model import WatcherOptions
from forkserve.config.options import options_of
from forkserve.config.values import boolean, integer, number, seconds, signal_name, size
from forkserve.suggest import nearest

__all__ = ["PLUGINS", "MemoryLimit", "PluginOption", "foreign_class", "memory_limit", "plugin_options", "watcher_of"]

_MODULE = "forkserve.sidecars.plugins"
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class PluginOption:
    """An option of a plugin; without a default it is required, or None if `optional`."""

    parse: Callable[[str], Any]
    default: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit in bytes, or in percent of the machine's memory."""

    amount: float
    is_percent: bool

    def of(self, percent: float, count: float) -> float:
        """Return the value to compare with it."""
        return percent if self.is_percent else count


def memory_limit(text: str) -> MemoryLimit:
    """Parse `90` (percent) or `250M`; raises ValueError."""
    try:
        return MemoryLimit(number(text), is_percent=True)
    except ValueError:
        return MemoryLimit(size(text), is_percent=False)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"expected a regular expression, got {text!r}: {error}") from None


def _positive(text: str) -> float:
    found = seconds(text)
    if found <= 0:
        raise ValueError(f"expected seconds above 0, got {text!r}")
    return found


_STATSD = {
    "application_name": PluginOption(str, "app"),
    "host": PluginOption(str, "localhost"),
    "port": PluginOption(integer, "8125"),
    "sample_rate": PluginOption(number, "1.0"),
}
_OBSERVER = {**_STATSD, "loop_rate": PluginOption(_positive, "60")}


def _named(name: str) -> Mapping[str, PluginOption]:
    return {**_OBSERVER, "application_name": PluginOption(str, name)}


PLUGINS: Mapping[str, Mapping[str, PluginOption]] = {
    "circus.plugins.flapping.Flapping": {
        "attempts": PluginOption(integer, "2"),
        "window": PluginOption(seconds, "1"),
        "retry_in": PluginOption(seconds, "7"),
        "max_retry": PluginOption(integer, "5"),
        "active": PluginOption(boolean, "True"),
    },
    "circus.plugins.statsd.StatsdEmitter": _STATSD,
    "circus.plugins.statsd.FullStats": _OBSERVER,
    "circus.plugins.resource_watcher.ResourceWatcher": {
        **_OBSERVER,
        "watcher": PluginOption(str, None),
        "max_cpu": PluginOption(number, "90"),
        "min_cpu": PluginOption(number, optional=True),
        "max_mem": PluginOption(memory_limit, "90"),
        "min_mem": PluginOption(memory_limit, optional=True),
        "health_threshold": PluginOption(number, "75"),
        "max_count": PluginOption(integer, "3"),
        "process_children": PluginOption(boolean, "False"),
        "child_signal": PluginOption(signal_name, "15"),
    },
    "circus.plugins.http_observer.HttpObserver": {
        **_named("http_observer"),
        "check_url": PluginOption(str, "http://localhost/"),
        "timeout": PluginOption(_positive, "10"),
        "restart_on_error": PluginOption(str, optional=True),
    },
    "circus.plugins.redis_observer.RedisObserver": {
        **_named("redis_observer"),
        "redis_url": PluginOption(str, "redis://localhost:6379/0"),
        "timeout": PluginOption(_positive, "5"),
        "restart_on_timeout": PluginOption(str, optional=True),
    },
    "circus.plugins.command_reloader.CommandReloader": {"loop_rate": PluginOption(_positive, "1")},
    "circus.plugins.watchdog.WatchDog": {
        "loop_rate": PluginOption(_positive, "60"),
        "watchers_regex": PluginOption(_pattern, ".*"),
        "msg_regex": PluginOption(_pattern, "^(?P<pid>.*);(?P<timestamp>.*)$"),
        "max_count": PluginOption(integer, "3"),
        "ip": PluginOption(str, "127.0.0.1"),
        "port": PluginOption(integer, "1664"),
        "watchers_stop_signal": PluginOption(signal_name, optional=True),
        "watchers_graceful_timeout": PluginOption(seconds, optional=True),
    },
}
"""The plugins of Circus, by the name of the class, with their options."""

_OLD_NAMES = {"circus.plugins._statsd.StatsdEmitter": "circus.plugins.statsd.StatsdEmitter"}
_OLD_OPTIONS = {"service": "watcher"}


def plugin_options(use: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a plugin of forkserve; raises ValueError that begins with the key."""
    declared = PLUGINS[use]
    given = {_OLD_OPTIONS.get(key, key): value for key, value in given.items()}
    found: dict[str, Any] = {}
    for key, option in declared.items():
        text = given.get(key, option.default)
        if text is None and not option.optional:
            raise ValueError(f"{key}: is missing")
        try:
            found[key] = None if text is None else option.parse(text)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return found


def foreign_class(watcher: WatcherOptions) -> str:
    """Return the user's class that a watcher runs as a plugin, or an empty text."""
    words = watcher.cmd.split() if watcher.name.startswith("plugin:") else []
    use = words[words.index("--use") + 1] if _MODULE in words else ""
    return "" if use in PLUGINS else use


def watcher_of(section: Section, values: Mapping[str, Value], master: MasterOptions, findings: Findings) -> Section:
    """Return the section of the watcher that runs a plugin; `values` are its own, placeholders replaced."""
    use = values["use"].text.strip() if "use" in values else ""
    use = _OLD_NAMES.get(use, use)
    if not _CLASS.fullmatch(use):
        origin = values["use"].origin if "use" in values else section.origin
        message = "expected the dotted name of a class" if use else "is missing: give the class to run"
        findings.error(origin, message, label=section.label, key="use")
        use = "circus.plugins.flapping.Flapping"
    given = {key: value.text for key, value in values.items() if key != "use"}
    if use in PLUGINS:
        _check(use, values, section, findings)
    elif use.startswith("circus.plugins."):
        advice = nearest(use, PLUGINS)
        findings.error(values["use"].origin, f"Circus has no such plugin{advice}", label=section.label, key="use")
    words = _words(section.name, use, given, master)
    own = PLUGINS.get(use, {})
    options = {name for each in options_of(WatcherOptions) for name in (each.name, *each.aliases)} - {"cmd", *own}
    kept = {key: value for key, value in values.items() if key in options or key.partition(".")[1]}
    runs = {
        "cmd": shlex.join((sys.executable, "-P", "-m", _MODULE, *words)),
        "singleton": "True",
        "priority": "1",
        "copy_env": "True",
        "copy_path": "True",
        "graceful_timeout": "5",
    }
    made = {key: Value(text, section.origin) for key, text in runs.items()}
    return replace(section, title=f"watcher:{section.title}", values={**made, **kept})


def _check(use: str, values: Mapping[str, Value], section: Section, findings: Findings) -> None:
    try:
        plugin_options(use, {key: value.text for key, value in values.items()})
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        origin = values[key].origin if key in values else section.origin
        findings.error(origin, message, label=section.label, key=key)


def _words(name: str, use: str, given: Mapping[str, str], master: MasterOptions) -> list[str]:
    flags = {
        "--name": name,
        "--use": use,
        "--log-level": master.loglevel,
        "--check-delay": f"{master.check_delay:g}",
        "--endpoint": master.endpoint,
        "--pubsub": master.pubsub_endpoint,
    }
    if master.control != "auto":
        flags["--control"] = master.control
    words = [word for flag, value in flags.items() if value for word in (flag, value)]
    return words + [word for key, value in sorted(given.items()) for word in ("--option", f"{key}={value}")]
