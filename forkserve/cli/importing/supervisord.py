"""Reads supervisord.conf (Supervisor 4): programs, FastCGI programs, the daemon's section, includes.

Rules: no I/O except reading the file and its includes. Keys that only describe the default behaviour, such as
killasgroup, are dropped; all others are converted or noted.
"""

from __future__ import annotations

import configparser
import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path

from forkserve.cli.importing.draft import Draft, Scalar
from forkserve.cli.importing.supervisordvalues import WID, addresses, expanded, size_text, variables
from forkserve.config.userfiles import read_text
from forkserve.config.values import exit_codes
from forkserve.errors import ConfigError

__all__ = ["read_supervisord"]

_TRUE = ("yes", "true", "on", "1")
_SECTIONS = {
    "eventlistener": "event listeners are not carried; read `forkservectl events -f` or GET /v1/events instead",
    "unix_http_server": "not needed: forkservectl finds the control socket by itself; `control` sets its path",
    "inet_http_server": "use control_bind and control_token for the control API by TCP; it has no web page",
    "supervisorctl": "not needed: forkservectl finds the control socket by itself",
    "rpcinterface": "there is no XML-RPC; the control API is HTTP and JSON (docs/api.md)",
}
_OPTIONS = {
    "serverurl": "there is no XML-RPC; the control API is HTTP and JSON (docs/api.md)",
    "stdout_capture_maxbytes": "use `forkservectl events -f` instead of capture mode",
    "stderr_capture_maxbytes": "use `forkservectl events -f` instead of capture mode",
    "stdout_events_enabled": "output is no event here; read it from its file or stream",
    "stderr_events_enabled": "output is no event here; read it from its file or stream",
}
_DAEMON = {
    "minfds": "set rlimits.nofile of a watcher, or the limit of the service that starts forkserve",
    "minprocs": "set rlimits.nproc of a watcher, or the limit of the service that starts forkserve",
    "user": "set uid of each watcher",
    "directory": "start forkserve with --chdir, or set working_dir of each watcher",
    "childlogdir": "set stdout_stream.filename of each watcher",
}
_HANDLED = {
    *(
        "command",
        "process_name",
        "numprocs",
        "numprocs_start",
        "priority",
        "autostart",
        "startsecs",
        "startretries",
        "autorestart",
    ),
    *("exitcodes", "stopsignal", "stopwaitsecs", "stopasgroup", "killasgroup", "user", "redirect_stderr"),
    *("environment", "umask"),
    *("directory", "socket", "socket_owner", "socket_mode", "socket_backlog", "stdout_syslog", "stderr_syslog"),
    *(f"{stream}_logfile{rest}" for stream in ("stdout", "stderr") for rest in ("", "_maxbytes", "_backups")),
}
_MOST = 10_000
"""Most processes of one program."""
_LEVELS = {"warn": "warning", "trace": "debug", "blather": "debug"}
_NAMES = "it must hold %(process_num)s where numprocs is above 1; processes are called web[1], web[2] and so on"
_PLACES = ("command", "environment", "directory")
"""Where the number of a process may be that of a port or of a file, which no other may have meanwhile."""
_OUTPUT = "supervisord keeps output in files of childlogdir; here it goes to forkserve's own output"


def read_supervisord(path: Path, draft: Draft) -> None:
    """Add a file to the draft; raises ConfigError, OSError and UnicodeDecodeError."""
    parser = _parsed(path)
    names = {"here": str(path.absolute().parent), "host_node_name": os.uname().nodename}
    if parser.has_section("supervisord"):
        _daemon(dict(parser["supervisord"]), names, draft)
    groups = _groups(parser, draft)
    order = _order(parser, groups)
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind in ("program", "fcgi-program"):
            name = name.strip()
            given = dict(parser[section]) | ({"priority": str(order[name])} if name in order else {})
            _Program(section, name, given, {**names, "group_name": groups.get(name, "")}, draft).add()
        elif kind == "group":
            continue
        elif kind not in ("supervisord", "include"):
            draft.note(f"[{section}]", _SECTIONS.get(kind, "is not a section of forkserve"))


def _parsed(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(read_text(path), str(path))
        pattern = parser.get("include", "files", fallback="").replace("%(here)s", str(path.absolute().parent))
        for each in pattern.split():
            for found in sorted(glob.glob(str(path.parent / each))):
                parser.read_string(read_text(found), found)
    except configparser.Error as error:
        raise ConfigError(str(error).replace("\n", " ")) from None
    return parser


def _groups(parser: configparser.RawConfigParser, draft: Draft) -> dict[str, str]:
    """Return the group of each program that has one."""
    found: dict[str, str] = {}
    for section in parser.sections():
        kind, _, group = section.partition(":")
        if kind != "group":
            continue
        for program in parser.get(section, "programs", fallback="").replace(",", " ").split():
            if found.setdefault(program, group.strip()) != group.strip():
                draft.note(f"[{section}] {program}", "a watcher is in one group; it stays in the first")
        for key in parser[section]:
            if key not in ("programs", "priority"):
                draft.note(f"[{section}] {key}", "is no option of a group")
    return found


def _order(parser: configparser.RawConfigParser, groups: Mapping[str, str]) -> dict[str, int]:
    """Return priorities, by program, for a single order of what is started by group first and then by program.

    They are supervisord's, where the lowest starts first, and 999 is the default. A program without a group counts as
    one. Without groups the programs' own priorities are that order.
    """
    places: dict[str, tuple[int, int]] = {}
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind in ("program", "fcgi-program"):
            own, group = _priority(parser, section), groups.get(name.strip())
            places[name.strip()] = (own if group is None else _priority(parser, f"group:{group}"), own)
    if not groups or len(set(places.values())) < 2:
        return {}
    ranks = sorted(set(places.values()))
    return {name: 999 - (len(ranks) - 1 - ranks.index(place)) for name, place in places.items()}


def _priority(parser: configparser.RawConfigParser, section: str) -> int:
    text = parser.get(section, "priority", fallback="999").strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else 999  # the reading of the program refuses it


def _daemon(given: dict[str, str], names: Mapping[str, str], draft: Draft) -> None:
    values: dict[str, Scalar] = {}
    for key, name in (("pidfile", "pidfile"), ("umask", "umask"), ("identifier", "name"), ("logfile", "logoutput")):
        if text := given.get(key):
            values[name] = expanded(text, names)
    if str(values.get("logoutput", "")).startswith(("/dev/std", "/dev/fd/", "/dev/null")):
        del values["logoutput"]
    if level := given.get("loglevel", "").lower():
        values["loglevel"] = _LEVELS.get(level, level)
    if given.get("nodaemon", "false").lower() not in _TRUE:
        draft.note("[supervisord] nodaemon", "forkserve stays in the foreground; -D or daemon = true detaches it")
    if "logoutput" in values:
        values |= _rotation(given)
    given = {key: text for key, text in given.items() if key not in ("logfile_maxbytes", "logfile_backups")}
    for key in given:
        if key not in ("pidfile", "umask", "identifier", "logfile", "loglevel", "nodaemon", "environment"):
            draft.note(f"[supervisord] {key}", _DAEMON.get(key, "has no counterpart here"))
    draft.add("forkserve", values=values, origin="[supervisord]")
    draft.add("env", values=dict(_variables(given.get("environment", ""), names, "[supervisord]")), origin="")


def _rotation(given: Mapping[str, str]) -> dict[str, Scalar]:
    """Return how the daemon's log is rotated: by default at 50 MB, with ten backups."""
    size = size_text(given.get("logfile_maxbytes", "50MB"))
    backups = given.get("logfile_backups", "10")
    if size == "0":
        return {}
    return {"log_max_bytes": size, **({"log_backups": int(backups)} if backups.isdecimal() else {})}


def _variables(text: str, names: Mapping[str, str], place: str) -> dict[str, str]:
    try:
        return variables(expanded(text, names))
    except ValueError as error:
        raise ConfigError(f"{place} environment: {error}") from None


class _Program:
    """One section of a program on its way to tables."""

    def __init__(self, section: str, name: str, given: dict[str, str], names: Mapping[str, str], draft: Draft) -> None:
        self.place = f"[{section}]"
        self.name = name
        self.given = given
        self.group = names["group_name"]
        group = self.group or name
        self.names = {**names, "program_name": name, "group_name": group, "numprocs": given.get("numprocs", "1")}
        self.draft = draft

    def add(self) -> None:
        """Add its watcher, and its socket if it has one."""
        if not self.given.get("command"):
            self.draft.note(self.place, "has no command")
            return
        self._note_rest()
        count, start = self._number("numprocs", 1), self._number("numprocs_start", 0)
        if count > _MOST:
            raise ConfigError(f"{self.place} numprocs: expected at most {_MOST}, got {count}")
        names = {**self.names, "process_num": str(start) if count == 1 else WID}
        self._watcher(names, self._processes(count, start, names))

    def _processes(self, count: int, start: int, names: Mapping[str, str]) -> dict[str, Scalar]:
        """Return how many there are, and what they are called."""
        values: dict[str, Scalar] = {"numprocesses": count} if count != 1 else {}
        given = self.given.get("process_name", "%(program_name)s")
        name = expanded(given, names)
        if count > 1 and "%(process_num)" not in given:
            self.draft.note(f"{self.place} process_name", _NAMES)
        elif name != self.name:
            values["process_name"] = name
        if count > 1 and "%(process_num)" in str(self.given):
            values["first_wid"] = start
        if count > 1 and any("%(process_num)" in self.given.get(key, "") for key in _PLACES):
            values |= {"max_surge": 0, "max_unavailable": 1}
        return values

    def _codes(self) -> str:
        text = self.given.get("exitcodes", "0")
        try:
            return ",".join(map(str, exit_codes(text)))
        except ValueError as error:
            raise ConfigError(f"{self.place} exitcodes: {error}") from None

    def _number(self, key: str, default: int) -> int:
        text = self.given.get(key, str(default))
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or (text.startswith("-") and key != "priority"):
            raise ConfigError(f"{self.place} {key}: expected a whole number, got {text!r}")
        return int(text)

    def _watcher(self, names: Mapping[str, str], processes: Mapping[str, Scalar]) -> None:
        values: dict[str, Scalar] = {
            "cmd": " ".join(expanded(self.given["command"], names).split("\n")),
            "copy_env": True,
            **processes,
        }
        values |= self._life()
        if values.get("respawn") is False:  # what is not replaced cannot be stopped first
            values = {key: value for key, value in values.items() if key not in ("max_surge", "max_unavailable")}
        for key, option in (("directory", "working_dir"), ("user", "uid"), ("umask", "umask")):
            if text := self.given.get(key):
                values[option] = expanded(text, names)
        if self.group:
            values["group"] = self.group
        values |= self._socket(self.name, names)
        values |= self._output(names)
        env = _variables(self.given.get("environment", ""), names, self.place)
        self.draft.add("watcher", self.name, values=values, origin=self.place, env=env)

    def _life(self) -> dict[str, Scalar]:
        given = self.given
        values: dict[str, Scalar] = {}
        if given.get("autostart", "true").lower() not in _TRUE:
            values["autostart"] = False
        restart = given.get("autorestart", "unexpected").lower()
        if restart == "unexpected":
            values["exitcodes"] = self._codes()
        elif restart not in _TRUE:
            values["respawn"] = False
        if "startsecs" in given:
            values["ready_after"] = self._number("startsecs", 1)
        # supervisord counts retries, forkserve tries
        values["max_retry"] = self._number("startretries", 3) + 1
        if "stopsignal" in given:
            values["stop_signal"] = given["stopsignal"].upper()
        values["graceful_timeout"] = self._number("stopwaitsecs", 10)
        if given.get("stopasgroup", "false").lower() in _TRUE:
            values["stop_children"] = True
        # the lower starts first there, and 999 is its default; the higher here, and 0 is
        if priority := 999 - self._number("priority", 999):
            values["priority"] = priority
        return values

    def _socket(self, name: str, names: Mapping[str, str]) -> dict[str, Scalar]:
        if "socket" not in self.given:
            return {}
        socket = re.sub(r"[^\w.-]", "-", name).lower()
        values = addresses(expanded(self.given["socket"], names))
        owner, _, group = self.given.get("socket_owner", "").partition(":")
        mode, backlog = self.given.get("socket_mode", ""), self.given.get("socket_backlog", "")
        found = {"owner": owner, "group": group, "mode": mode}
        values |= {key: text for key, text in found.items() if text}
        if backlog.isdecimal():
            values["backlog"] = int(backlog)
        self.draft.add("socket", socket, values=values, origin=f"{self.place} socket")
        return {"stdin_socket": socket, "close_child_stdin": False}

    def _output(self, names: Mapping[str, str]) -> dict[str, Scalar]:
        values = self._stream("stdout", "stdout", names)
        if self.given.get("redirect_stderr", "false").lower() in _TRUE:
            return {**values, "redirect_stderr": True}
        return values | self._stream("stderr", "stderr", names)

    def _stream(self, source: str, target: str, names: Mapping[str, str]) -> dict[str, Scalar]:
        """Return the options of stream `target`, for the destination of `source` in supervisord."""
        where = self.given.get(f"{source}_logfile", "AUTO")
        if where.upper() == "AUTO":
            self.draft.note(f"{self.place} {source}_logfile", _OUTPUT)
            return {}
        if where.upper() == "NONE" or where == "/dev/null":
            return {f"close_child_{target}": True}
        if where.lower() == "syslog" or self.given.get(f"{source}_syslog", "").lower() in _TRUE:
            return {f"{target}_stream.kind": "SyslogStream"}
        if where.startswith(("/dev/std", "/dev/fd/")):
            return {}
        values: dict[str, Scalar] = {f"{target}_stream.filename": expanded(where, names)}
        size = size_text(self.given.get(f"{source}_logfile_maxbytes", "50MB"))
        if size != "0":
            values[f"{target}_stream.max_bytes"] = size
            values[f"{target}_stream.backup_count"] = self._number(f"{source}_logfile_backups", 10)
        return values

    def _note_rest(self) -> None:
        for key in self.given:
            if key not in _HANDLED:
                self.draft.note(f"{self.place} {key}", _OPTIONS.get(key, "is not an option of forkserve"))
