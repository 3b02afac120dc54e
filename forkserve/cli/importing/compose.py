"""Reads the simple cases of compose.yaml: services with a command, on this machine instead of in a container.

Rules: no I/O but reading the file. PyYAML is asked for by name where it is missing. What only a container has (images,
networks, volumes) is noted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from forkserve.cli.importing.draft import Draft, Scalar
from forkserve.config.userfiles import read_text
from forkserve.errors import ConfigError

__all__ = ["read_compose"]

_VARIABLE = re.compile(r"\$(?:\$|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?::?[-?](?P<default>[^}]*))?\})")
_NOTES = {
    "image": "programs come from this machine, not from an image: install what the command needs",
    "build": "programs come from this machine, not from an image: install what the command needs",
    "ports": "the command binds its port itself; to have it bound by the master use [socket.NAME] and --fd",
    "volumes": "the command sees this machine's files: set the paths",
    "networks": "every service is at 127.0.0.1 here, not at a name of its service",
    "healthcheck": "set `ready`, such as http://127.0.0.1:8000/health or exec:COMMAND",
    "env_file": "is not read; put its variables into [watcher.NAME.env]",
    "logging": "set stdout_stream.*",
    "mem_limit": "set max_rss, or the limit of the service that starts forkserve",
}
_HANDLED = (
    *("command", "entrypoint", "environment", "working_dir", "user", "scale", "deploy", "restart", "stop_signal"),
    *("stop_grace_period", "depends_on", "container_name", "hostname", "init", "tty", "stdin_open", "expose"),
)


def read_compose(path: Path, draft: Draft) -> None:
    """Add what a file says to the draft; raises ConfigError, OSError and UnicodeDecodeError."""
    data = _loaded(path)
    services = data.get("services")
    if not isinstance(services, dict) or not services:
        raise ConfigError(f"{path}: no services")
    kept = [name for name, keys in services.items() if isinstance(keys, dict) and _command(keys)]
    for name, keys in services.items():
        if not isinstance(keys, dict) or name not in kept:
            draft.note(f"services.{name}", "has no command of its image here; add a watcher that runs the program")
            continue
        _add(str(name), keys, kept, draft)
    for key in data:
        if key not in ("services", "version", "name") and not str(key).startswith("x-"):
            draft.note(str(key), "belongs to containers")


def _loaded(path: Path) -> Mapping[str, Any]:
    try:
        # needed by this format alone, so no dependency
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ConfigError(f"{path}: PyYAML is needed to read it: pip install PyYAML") from None
    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: no services")
    return data


def _command(keys: Mapping[str, Any]) -> str:
    words: list[str] = []
    for part in (keys.get("entrypoint"), keys.get("command")):
        if part is not None:
            words.append(shlex.join(map(str, part)) if isinstance(part, list) else str(part).strip())
    return " ".join(filter(None, words))


def _add(name: str, keys: Mapping[str, Any], kept: list[str], draft: Draft) -> None:
    place = f"services.{name}"
    values: dict[str, Scalar] = {"cmd": _expanded(_command(keys)), "copy_env": True}
    for key, option in (("working_dir", "working_dir"), ("stop_signal", "stop_signal")):
        if key in keys:
            values[option] = _expanded(str(keys[key]))
    user, _, group = _expanded(str(keys.get("user", ""))).partition(":")
    values |= {option: text for option, text in (("uid", user), ("gid", group)) if text}
    values |= _life(keys, place, draft)
    before = [str(each) for each in keys.get("depends_on") or ()]
    if after := [each for each in before if each in kept]:
        values["after"] = ", ".join(after)
    for each in before:
        if each not in kept:
            draft.note(f"{place}.depends_on", f"{each} is not carried, so nothing waits for it")
    draft.add("watcher", name, values=values, origin=place, env=_environment(keys.get("environment"), place))
    for key in keys:
        if key not in _HANDLED:
            draft.note(f"{place}.{key}", _NOTES.get(key, "belongs to containers, or has no counterpart here"))


def _life(keys: Mapping[str, Any], place: str, draft: Draft) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    deploy = keys.get("deploy")
    count = keys.get("scale", deploy.get("replicas", 1) if isinstance(deploy, dict) else 1)
    if isinstance(count, int) and count != 1:
        values["numprocesses"] = count
    if isinstance(deploy, dict) and set(deploy) - {"replicas"}:
        draft.note(f"{place}.deploy", "only replicas are carried")
    restart = keys.get("restart")
    if restart is None or restart is False or restart == "no":
        # what Compose does where nothing is said, too
        values["respawn"] = False
        if restart is None:
            draft.note(place, "restart is not set, so it runs once, as under Compose; respawn = true keeps it running")
    elif str(restart).startswith("on-failure"):
        draft.note(f"{place}.restart", "exit codes are not told apart; respawn = false if the command is to run once")
    grace = str(keys.get("stop_grace_period", "10s"))
    if re.fullmatch(r"\d+(\.\d+)?(ms|s|m|h)?", grace):
        values["graceful_timeout"] = grace
    else:
        draft.note(f"{place}.stop_grace_period", f"write {grace} in one unit, as graceful_timeout")
    return values


def _environment(given: Any, place: str) -> dict[str, str]:
    if isinstance(given, dict):
        return {str(name): _text(name, value) for name, value in given.items()}
    if isinstance(given, list):
        pairs = [str(each).partition("=") for each in given]
        return {name: _expanded(value) if equals else f"$(circus.env.{name})" for name, equals, value in pairs}
    if given is not None:
        raise ConfigError(f"{place}.environment: expected a table or a list")
    return {}


def _text(name: object, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"$(circus.env.{name})" if value is None else _expanded(str(value))


def _expanded(text: str) -> str:
    """Replace Compose's variables: ${X:-default} by the default, ${X} by $(circus.env.X), $$ by $."""

    def value(match: re.Match[str]) -> str:
        name = match["name"] or match["braced"]
        if name is None:
            return "$"
        separator = match[0][len(name) + 2 :].lstrip(":")[:1]
        return match["default"] if separator == "-" else f"$(circus.env.{name})"

    return _VARIABLE.sub(value, text)
