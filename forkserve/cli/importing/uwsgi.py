"""Reads uwsgi.ini: one application, its sockets and its attached daemons.

Rules: no I/O except reading the file. uWSGI's own protocol is not supported, so its sockets become HTTP ones, with a
note.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from forkserve.cli.importing.draft import Draft, Scalar
from forkserve.cli.importing.procfile import needs_shell
from forkserve.cli.importing.socketvalues import socket_values
from forkserve.config.userfiles import read_text
from forkserve.errors import ConfigError

__all__ = ["read_uwsgi"]

_PLACEHOLDER = re.compile(r"%\(([\w-]+)\)")
_HTTP = ("http", "http-socket", "http11-socket")
_SOCKETS = (*_HTTP, "socket", "uwsgi-socket")
_FLAGS = {
    "harakiri": "--timeout",
    "max-requests": "--max-requests",
    "max-requests-delta": "--max-requests-jitter",
    "max-worker-lifetime": "--max-lifetime",
    "pythonpath": "--python-path",
    "static-map": "--static",
    "buffer-size": "--limit-request-head",
    "post-buffering": "--body-in-memory",
}
_MASTER = {"pidfile": "pidfile", "safe-pidfile": "pidfile", "procname-master": "name", "daemonize": "logoutput"}
_WATCHER = {"uid": "uid", "gid": "gid", "chdir": "working_dir", "chdir2": "working_dir", "umask": "umask"}
_WATCHER |= dict.fromkeys(("home", "virtualenv", "venv", "pyhome"), "virtualenv")
_DAEMONS = ("attach-daemon", "attach-daemon2", "smart-attach-daemon", "legion-attach-daemon")
_CRONS = ("cron", "unique-cron", "cron2", "unique-cron2", "legion-cron")
_AS_HERE = {
    *("master", "vacuum", "die-on-term", "enable-threads", "single-interpreter", "need-app", "strict", "plugins"),
    *("plugin", "thunder-lock", "lazy-apps", "lazy", "no-orphans", "protocol", "buffer-size", "module", "callable"),
    *("wsgi-file", "file", "wsgi", "processes", "workers", "cheaper", "threads", "env"),
    *("listen", "chmod-socket", "chown-socket", "reload-mercy", "worker-reload-mercy", "reload-on-rss", "gevent"),
    *("logto", "disable-logging", "log-master", "auto-procname", "ignore-sigpipe"),
    *("ignore-write-errors", "disable-write-exception", "paste", "ini-paste"),
    *("py-call-osafterfork",),
}
"""Handled below, or default behaviour."""
_NOTES = {
    "cheaper-": "the number of processes follows the load, between numprocesses_min and numprocesses_max",
    "stats": "use status_bind and forkservectl stats",
    "mule": "give it a watcher with the command that it is to run",
    "spooler": "use a queue such as rq or Celery, as a watcher",
    "touch-reload": "use forkservectl reload, or --reload in development",
    "py-autoreload": "add --reload to cmd, for development",
    "emperor": "run one forkserve for each file, or include_dir",
    "reload-on-as": "set max_rss, which is what the memory costs",
    "harakiri-verbose": "the stack is logged in any case",
    "route": "there is no routing language; route in the proxy or in the application",
}


def read_uwsgi(path: Path, draft: Draft) -> None:
    """Add a file to the draft; raises ConfigError, OSError and UnicodeDecodeError."""
    given = _given(path)
    names = _sockets(given, draft)
    values: dict[str, Scalar] = {"cmd": _command(given, names, draft), "copy_env": True}
    place: dict[str, Scalar] = {option: given[key][-1] for key, option in _WATCHER.items() if key in given}
    values |= place
    values |= _numbers(given, draft)
    env = dict(text.partition("=")[::2] for text in given.get("env", []))
    master: dict[str, Scalar] = {option: given[key][-1] for key, option in _MASTER.items() if key in given}
    if "daemonize" in given:
        master["daemon"] = True
    draft.add("forkserve", values=master, origin="[uwsgi]")
    draft.add("watcher", "web", values=values, origin="[uwsgi]", env=env)
    if not {"lazy", "lazy-apps"} & given.keys():
        draft.note("[uwsgi]", "each worker imports the application; preload = true imports it once, as uWSGI does")
    for number, command in enumerate((each for key in _DAEMONS for each in given.get(key, [])), start=1):
        draft.add(
            "watcher",
            f"daemon{number}",
            values={"cmd": command, "copy_env": True, **place},
            origin="[uwsgi] attach-daemon",
            env=env,
        )
    _add_timers(given, {"copy_env": True, **place}, env, draft)
    for key in given:
        if key not in {*_variables(path), *_AS_HERE, *_SOCKETS, *_FLAGS, *_MASTER, *_WATCHER, *_DAEMONS, *_CRONS}:
            reason = next((text for word, text in _NOTES.items() if key.startswith(word)), "has no counterpart here")
            draft.note(f"[uwsgi] {key}", reason)


def _add_timers(
    given: Mapping[str, list[str]], common: Mapping[str, Scalar], env: Mapping[str, str], draft: Draft
) -> None:
    """Add a timer for each cron: minute, hour, day, month and weekday, where -1 means every and -5 every fifth."""
    number = 0
    for key, text in [(name, each) for name in _CRONS for each in given.get(name, [])]:
        words = text.split(None, 5)
        fields, command = words[:5], words[-1]
        if key.endswith("cron2"):
            first, _, command = text.partition(" ")
            named = dict(each.partition("=")[::2] for each in first.split(","))
            fields = [named.get(name, "-1") for name in ("minute", "hour", "day", "month", "week")]
        if len(fields) < 5 or not command or not all(re.fullmatch(r"-?\d+", each) for each in fields):
            draft.note(f"[uwsgi] {key}", f"is not a schedule that forkserve knows: {text}")
            continue
        number += 1
        schedule = " ".join("*" if each == "-1" else f"*/{each[1:]}" if each[0] == "-" else each for each in fields)
        values: dict[str, Scalar] = {"cmd": command.strip(), **common, "schedule": schedule}
        if needs_shell(command):
            values["shell"] = True
        draft.add("watcher", f"cron{number}", values=values, origin=f"[uwsgi] {key}", env=env)


def _given(path: Path) -> dict[str, list[str]]:
    """Return the values of each key of [uwsgi], in order: a key may occur several times."""
    found: dict[str, list[str]] = {}
    section = ""
    own = {"d": f"{path.absolute().parent}/", "n": path.stem, "p": str(path.absolute()), "s": path.name}
    for line in read_text(path).split("\n"):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text[0] == "[":
            section = text.strip("[] ")
        elif section == "uwsgi":
            key, equals, value = text.partition("=")
            if not equals:  # a key alone is a switch that is on
                value = "true"
            name = key.strip().replace("_", "-")
            found.setdefault(name, []).append(_expanded(value.strip(), found, own))
    if not found:
        raise ConfigError(f"{path}: no section [uwsgi] with options")
    return found


def _variables(path: Path) -> set[str]:
    """Return the keys that exist to be used by others, as %(KEY)."""
    return {name.replace("_", "-") for name in _PLACEHOLDER.findall(read_text(path))}


def _expanded(text: str, found: Mapping[str, list[str]], own: Mapping[str, str]) -> str:
    text = _PLACEHOLDER.sub(lambda match: found.get(match[1].replace("_", "-"), [match[0]])[-1], text)
    text = re.sub(r"%([dnps])", lambda match: own[match[1]], text)
    return re.sub(r"\$\((\w+)\)", lambda match: f"$(circus.env.{match[1]})", text)


def _sockets(given: Mapping[str, list[str]], draft: Draft) -> list[str]:
    names: list[str] = []
    for key in _SOCKETS:
        for text in given.get(key, []):
            name = f"web{len(names) + 1}" if names else "web"
            draft.add("socket", name, values=_socket(text.partition(",")[0], given), origin=f"[uwsgi] {key} = {text}")
            names.append(name)
            if key not in _HTTP:
                draft.note(f"[uwsgi] {key}", "speaks HTTP here: in nginx put proxy_pass in place of uwsgi_pass")
    if not names:
        draft.note("[uwsgi]", "names no socket; 127.0.0.1:8000 is bound")
        draft.add("socket", "web", values={"host": "127.0.0.1", "port": 8000})
    return names or ["web"]


def _socket(text: str, given: Mapping[str, list[str]]) -> dict[str, Scalar]:
    try:
        values = socket_values(text if ":" in text or text.isdecimal() else f"unix:{text}")
    except ValueError as error:
        raise ConfigError(f"[uwsgi] socket: {error}") from None
    if "path" in values:
        if "chmod-socket" in given:
            mode = given["chmod-socket"][-1]
            values["mode"] = mode if mode.isdecimal() else "666"
        owner, _, group = given.get("chown-socket", [""])[-1].partition(":")
        values |= {key: word for key, word in (("owner", owner), ("group", group)) if word}
    if "listen" in given and given["listen"][-1].isdecimal():
        values["backlog"] = int(given["listen"][-1])
    return values


def _command(given: Mapping[str, list[str]], names: list[str], draft: Draft) -> str:
    words = ["forkserve-worker"]
    for name in names:
        words += ["--fd", f"$(circus.sockets.{name})"]
    if "gevent" in given:
        words += ["--backend", "gevent", "--spawn", given["gevent"][-1]]
    elif (threads := given.get("threads", ["1"])[-1]) != "1":
        words += ["--backend", "threads", "--threads", threads]
    for key, flag in _FLAGS.items():
        words += [word for text in given.get(key, []) for word in (flag, text)]
    if given.get("disable-logging", ["false"])[-1].lower() not in ("true", "1", "on", "yes"):
        words += ["--access-log", "-"]
    words.append(_application(given, draft))
    return " ".join(word if word.startswith("$(circus.") else shlex.quote(word) for word in words)


def _application(given: Mapping[str, list[str]], draft: Draft) -> str:
    attribute = given.get("callable", [""])[-1]
    for key in ("module", "wsgi", "wsgi-file", "file"):
        if key in given:
            text = given[key][-1]
            return text if ":" in text else f"{text}:{attribute or 'application'}"
    for key in ("paste", "ini-paste"):
        if key in given:
            return "paste:" + given[key][-1].removeprefix("config:")
    draft.note("[uwsgi]", "names no application (module or wsgi-file); put yours in place of MODULE:APP")
    return "MODULE:APP"


def _numbers(given: Mapping[str, list[str]], draft: Draft) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    count = next((given[key][-1] for key in ("processes", "workers") if key in given), "1")
    if count == "%k":
        values["numprocesses"] = "auto"
    elif count.isdecimal():
        values["numprocesses"] = int(count)
        least = given.get("cheaper", [""])[-1]
        if least.isdecimal() and 0 < int(least) < int(count):
            values |= {"numprocesses": int(least), "numprocesses_min": int(least), "numprocesses_max": int(count)}
    else:
        draft.note("[uwsgi] processes", f"{count} is no number; set numprocesses")
    mercy = next((given[key][-1] for key in ("reload-mercy", "worker-reload-mercy") if key in given), "")
    if mercy.isdecimal():
        values["graceful_timeout"] = int(mercy)
    if (limit := given.get("reload-on-rss", [""])[-1]).isdecimal():
        values["max_rss"] = f"{limit}M"
    if "logto" in given:
        values["stdout_stream.filename"] = values["stderr_stream.filename"] = given["logto"][-1]
    return values
