"""Reads the simple cases of compose.yaml: services with a command, on this machine instead of in a container.

Rules: no I/O except reading the file. A missing PyYAML is reported by name. What only a container has (images,
networks, volumes) is noted.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from forkserve.cli.importing.draft import Draft, Scalar
from forkserve.cli.importing.variables import duration, read_dotenv, variables_of
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
    "logging": "set stdout_stream.*",
    "secrets": "read the secret from a file of this machine, or from a variable",
    "configs": "the command sees this machine's files: set the paths",
}
_WAITED = "others wait for its end (ready_after), and start even if it has failed: adjust that by hand"
_HANDLED = (
    *("command", "entrypoint", "environment", "working_dir", "user", "scale", "deploy", "restart", "stop_signal"),
    *("stop_grace_period", "depends_on", "container_name", "hostname", "init", "tty", "stdin_open", "expose"),
    *("healthcheck", "env_file", "mem_limit", "profiles", "ulimits"),
)


def read_compose(path: Path, draft: Draft) -> None:
    """Add a file to the draft; raises ConfigError, OSError and UnicodeDecodeError."""
    data = _loaded(path)
    services = data.get("services")
    if not isinstance(services, dict) or not services:
        raise ConfigError(f"{path}: no services")
    kept = [name for name, keys in services.items() if isinstance(keys, dict) and _command(keys)]
    finished = {each for keys in services.values() if isinstance(keys, dict) for each in _awaited_ends(keys)}
    for name, keys in services.items():
        if not isinstance(keys, dict) or name not in kept:
            draft.note(f"services.{name}", "has no command of its image here; add a watcher that runs the program")
            continue
        _Service(str(name), keys, path.parent, draft).add(kept, ends=name in finished)
    read_dotenv(path, _names_used(read_text(path)), draft)
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


def _awaited_ends(keys: Mapping[str, Any]) -> list[str]:
    """Return the services that must have ended before another starts."""
    given = keys.get("depends_on")
    conditions = given if isinstance(given, dict) else {}
    return [
        str(name)
        for name, each in conditions.items()
        if isinstance(each, dict) and each.get("condition") == "service_completed_successfully"
    ]


class _Service:
    """One service on its way to a watcher; `folder` is that of the file."""

    def __init__(self, name: str, keys: Mapping[str, Any], folder: Path, draft: Draft) -> None:
        self.name = name
        self.keys = keys
        self.folder = folder
        self.draft = draft
        self.place = f"services.{name}"
        deploy = keys.get("deploy")
        self.deploy: Mapping[str, Any] = deploy if isinstance(deploy, dict) else {}

    def add(self, kept: list[str], *, ends: bool) -> None:
        """Add the watcher; `kept` are the services that become one, `ends` means that others wait for its end."""
        values: dict[str, Scalar] = {"cmd": _expanded(_command(self.keys)), "copy_env": True}
        for key in ("working_dir", "stop_signal"):
            if key in self.keys:
                values[key] = _expanded(str(self.keys[key]))
        user, _, group = _expanded(str(self.keys.get("user", ""))).partition(":")
        values |= {option: text for option, text in (("uid", user), ("gid", group)) if text}
        values |= self._life()
        values |= self._health(ends=ends)
        values |= self._limits()
        before = [str(each) for each in self.keys.get("depends_on") or ()]
        if after := [each for each in before if each in kept]:
            values["after"] = ", ".join(after)
        for each in before:
            if each not in kept:
                self.draft.note(f"{self.place}.depends_on", f"{each} is not carried, so nothing waits for it")
        env = {**self._env_files(), **_environment(self.keys.get("environment"), self.place)}
        self.draft.add("watcher", self.name, values=values, origin=self.place, env=env)
        for key in self.keys:
            if key not in _HANDLED:
                self._note(key, _NOTES.get(key, "belongs to containers, or has no counterpart here"))

    def _note(self, key: str, message: str) -> None:
        self.draft.note(f"{self.place}.{key}", message)

    def _life(self) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        count = self.keys.get("scale", self.deploy.get("replicas", 1))
        if isinstance(count, int) and count != 1:
            values["numprocesses"] = count
        for key in self.deploy:
            if key not in ("replicas", "restart_policy", "resources", "mode"):
                self._note(f"deploy.{key}", "belongs to a cluster; see max_surge and `reload --canary` for updates")
        values |= self._restart()
        if self.keys.get("profiles"):
            values["autostart"] = False
            self._note("profiles", "it is not started by itself: forkservectl start NAME")
        seconds = duration(str(self.keys.get("stop_grace_period", "10s")))
        if seconds is None:
            self._note("stop_grace_period", "is not a duration that forkserve knows; set graceful_timeout")
        else:
            values["graceful_timeout"] = seconds
        return values

    def _restart(self) -> dict[str, Scalar]:
        policy = self.deploy.get("restart_policy")
        policy = policy if isinstance(policy, dict) else {}
        given = self.keys.get("restart", policy.get("condition"))
        word, _, tries = str("no" if given in (None, False) else given).partition(":")
        tries = tries or str(policy.get("max_attempts", ""))
        if given is None and not policy:
            self.draft.note(
                self.place, "restart is not set, so it runs once, as under Compose; respawn = true keeps it running"
            )
        if word in ("no", "none"):
            return {"respawn": False}
        values: dict[str, Scalar] = {"max_retry": int(tries) if tries.isdecimal() else -1}
        return {**values, "exitcodes": "0"} if word == "on-failure" else values

    def _health(self, *, ends: bool) -> dict[str, Scalar]:
        if ends:
            self.draft.note(self.place, _WAITED)
            return {"ready_after": "1d"}
        given = self.keys.get("healthcheck")
        if not isinstance(given, dict) or given.get("disable"):
            return {}
        command = _probe(given.get("test"))
        if not command:
            return {}
        self._note("healthcheck", "is asked until the process is ready; see watchdog for later")
        times = [duration(str(given.get(key, usual))) for key, usual in (("start_period", "0s"), ("interval", "30s"))]
        start, interval = (0.0 if each is None else each for each in times)
        retries = given.get("retries", 3)
        patience = start + interval * (retries if isinstance(retries, int) else 3)
        return {"ready": f"exec:{_expanded(command)}", "ready_timeout": max(60, math.ceil(patience))}

    def _limits(self) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        limits = self.deploy.get("resources")
        limits = limits.get("limits") if isinstance(limits, dict) else None
        memory = limits.get("memory") if isinstance(limits, dict) else self.keys.get("mem_limit")
        if memory is not None:
            values["max_rss"] = re.sub(r"(?i)(?<=[kmg])i?b$", "", _expanded(str(memory)).strip()).upper()
        ulimits = self.keys.get("ulimits")
        for name, limit in (ulimits if isinstance(ulimits, dict) else {}).items():
            number = limit.get("soft") if isinstance(limit, dict) else limit
            if isinstance(number, int):
                values[f"rlimit_{name}"] = number
        return values

    def _env_files(self) -> dict[str, str]:
        given = self.keys.get("env_file")
        env: dict[str, str] = {}
        for each in given if isinstance(given, list) else [given] if given else []:
            name = str(each.get("path", "") if isinstance(each, dict) else each)
            try:
                env |= variables_of(self.folder / name)
            except (OSError, ConfigError) as error:
                if not isinstance(each, dict) or each.get("required", True):
                    reason = getattr(error, "strerror", None) or str(error)
                    self._note("env_file", f"{name} cannot be read ({reason}); put its variables into env")
                continue
            self.draft.holds(name)
        return env


def _probe(test: Any) -> str:
    """Return the command of a health check: CMD and words, CMD-SHELL and a line, or a line for the shell."""
    if isinstance(test, str):
        test = ["CMD-SHELL", test]
    if not isinstance(test, list) or len(test) < 2 or test[0] == "NONE":
        return ""
    words = [str(each) for each in test]
    return shlex.join(["sh", "-c", " ".join(words[1:])] if words[0] == "CMD-SHELL" else words[1:])


def _names_used(text: str) -> frozenset[str]:
    """Return the variables that a file uses."""
    found = (match["name"] or match["braced"] for match in _VARIABLE.finditer(text))
    return frozenset(filter(None, found))


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
