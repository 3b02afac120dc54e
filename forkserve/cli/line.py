"""Makes a configuration from a command line: from `--fd-socket`, from the short form, and from `-c` with flags.

Rules: pure; the environment is an argument. The result is a source, so that a reload finds the same line, or reads the
file again. A line becomes sections, like those of a file, and is checked in the same way.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from forkserve.cli.arguments import Line
from forkserve.cli.gunicornconf import is_python, translation
from forkserve.config.address import Address, parse_address
from forkserve.config.document import Kind, Section, Value
from forkserve.config.load import ConfigSource, FileSource, LineSource
from forkserve.config.model import SocketOptions
from forkserve.config.options import Option, Origin, options_of, read_value
from forkserve.config.placeholders import sockets_in
from forkserve.config.userfiles import read_file
from forkserve.config.values import at_least, integer, is_file
from forkserve.errors import UsageError
from forkserve.suggest import nearest
from forkserve.unix.home import typed

__all__ = ["address_section", "source_of"]

_HERE = Origin("command line")
_DEFAULT_BIND = "127.0.0.1:8000"
_UNREAD = ("GUNICORN_CMD_ARGS",)
"""Variables with flags for a program that the short form replaces; a command behind -- may read them."""
_FILE_FLAGS = {
    "fd_sockets": "--fd-socket",
    "binds": "--bind",
    "backlog": "--backlog",
    "workers": "--workers",
    "user": "--user",
    "group": "--group",
    "graceful_timeout": "--graceful-timeout",
    "drain_delay": "--drain-delay",
    "logs_kept": "--logs-kept",
    "log_file": "--log-file",
    "paste": "--paste",
    "reuse_port": "--reuse-port",
    "capture_output": "--capture-output",
    "application": "an application",
    "command": "a command after --",
}


def source_of(
    line: Line, environ: Mapping[str, str], *, cpus: Callable[[], int], worker_options: Sequence[Option] = ()
) -> ConfigSource:
    """Return the source for the line; raises UsageError.

    `cpus` returns their number, for `--workers auto`; `worker_options` are those of forkserve-worker.
    """
    if line.config is not None:
        return _file_source(line, line.config, environ)
    line = _with_paste(line)
    _refuse_contradictions(line)
    sockets = [_with_defaults(each, line) for each in (*map(_fd_socket, line.fd_sockets), *_binds(line, environ))]
    names = [each.name for each in sockets]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two sockets are called {name!r}; give each its own name")
    command = line.command or _worker_command(line, names, worker_options)
    _refuse_eaten_placeholder(command, names)
    watcher = _watcher(line, command, _workers(line, environ, cpus))
    unread = tuple(name for name in _UNREAD if line.application is not None and environ.get(name, "").strip())
    return LineSource((*_master(line), *sockets, watcher), env=_environment(line.env), unread=unread)


def _with_paste(line: Line) -> Line:
    """Turn `--paste FILE [NAME]` into `paste:FILE[#NAME]`."""
    if line.paste is None:
        return line
    name = line.application
    if name is not None and not name.isidentifier():
        raise UsageError(f"give the application {name!r} or --paste {line.paste}, not both")
    return dataclasses.replace(line, paste=None, application=f"paste:{line.paste}" + (f"#{name}" if name else ""))


def _refuse_contradictions(line: Line) -> None:
    if line.application is None and not line.command:
        raise UsageError(_nothing_to_run(line))
    if line.application is not None and line.command:
        raise UsageError(
            f"either an application or a command after --, got {line.application!r} and {shlex.join(line.command)!r}"
        )
    if line.application is not None and _is_configuration(line.application):
        raise UsageError(f"{line.application} is a configuration file; run it with: forkserve -c {line.application}")
    if line.command:
        own = (*line.worker[:1], *([line.log_flag] if line.log_file is not None else []))
        for flag in own:
            raise UsageError(f"{flag} belongs to forkserve-worker: put it into the command after --")


def _file_source(line: Line, path: str, environ: Mapping[str, str]) -> FileSource:
    if is_python(path):
        raise UsageError(translation(path))
    if path.endswith((".yaml", ".yml")) or Path(path).name.startswith("Procfile"):
        cure = f"forkserve import {shlex.quote(path)} -o forkserve.toml"
        raise UsageError(f"{path} is a configuration of another program: {cure}")
    for name, flag in _FILE_FLAGS.items():
        if getattr(line, name):
            raise UsageError(f"{flag} does not go with -c: it belongs in {path}")
    if line.worker:
        raise UsageError(f"{line.worker[0]} does not go with -c: it belongs in a cmd of {path}")
    return FileSource(typed(path, environ), overrides=_master(line), env=_environment(line.env), shown=path)


def _is_configuration(application: str) -> bool:
    """Tell a stack's file from a PasteDeploy file, which is an application."""
    path = Path(application)
    try:
        return path.suffix == ".toml" or (path.suffix == ".ini" and b"[watcher:" in read_file(path))
    except OSError:
        return False


def _nothing_to_run(line: Line) -> str:
    if line.command is not None:
        return "no command after --"
    if line.fd_sockets:
        return (
            "nothing to run: give a command after --, e.g. -- forkserve-worker --fd '$(circus.sockets.web)' myapp:app"
        )
    return "nothing to run: give an application (module:app), a command after --, or -c FILE"


def _master(line: Line) -> tuple[Section, ...]:
    given = dict(line.master)
    if line.log_file is not None:
        given.setdefault("logoutput", (line.log_flag, line.log_file))
    values = {name: Value(text, Origin(f"argument {flag}")) for name, (flag, text) in given.items()}
    return (Section("circus", values, _HERE, "forkserve", strict=True),) if values else ()


def _fd_socket(text: str) -> Section:
    name, equals, rest = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"--fd-socket: expected NAME=ADDRESS such as web=0.0.0.0:8000, got {text!r}")
    return address_section(name.lower(), rest, "--fd-socket")


def address_section(name: str, text: str, flag: str) -> Section:
    """Return the section of a socket given as `ADDRESS[,OPTION[=VALUE]...]`; raises UsageError that names `flag`.

    The options are those of `[socket:NAME]`; one without a value is turned on.
    """
    where, *options = text.split(",")
    try:
        values = dict(_address_values(parse_address(where)))
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    known = [each.name for each in options_of(SocketOptions)]
    for each in options:
        key, equals, value = each.partition("=")
        if key not in known:
            raise UsageError(f"{flag}: unknown option {key!r} of a socket{nearest(key, known)}")
        values[key] = value if equals else "true"
    origin = Origin(f"argument {flag}")
    return Section(
        f"socket:{name}", {key: Value(value, origin) for key, value in values.items()}, origin, f"socket:{name}", True
    )


def _address_values(address: Address) -> list[tuple[str, str]]:
    if address.fd is not None:
        return [("fd", str(address.fd))]
    if address.path is not None:
        return [("path", address.path)]
    return [("host", address.host), ("port", str(address.port))]


def _with_defaults(section: Section, line: Line) -> Section:
    """Apply the line's options for all sockets to one; its own options override them."""
    values: dict[str, Value] = {}
    if line.backlog is not None:
        values["backlog"] = Value(line.backlog, Origin("argument --backlog"))
    if line.reuse_port and "path" not in section.values:
        values["so_reuseport"] = Value("true", Origin("argument --reuse-port"))
    return dataclasses.replace(section, values={**values, **section.values})


def _binds(line: Line, environ: Mapping[str, str]) -> list[Section]:
    binds = [(text, "--bind") for text in line.binds]
    if not binds and not line.fd_sockets and line.application is not None:
        port = environ.get("PORT", "").strip()
        if port and not (port.isdecimal() and int(port) <= 65535):
            raise UsageError(f"environment PORT: expected a port between 0 and 65535, got {port!r}")
        binds = [(f"0.0.0.0:{port}" if port else _DEFAULT_BIND, "--bind")]
    return [
        address_section("web" if number == 1 else f"web{number}", text, flag)
        for number, (text, flag) in enumerate(binds, start=1)
    ]


def _workers(line: Line, environ: Mapping[str, str], cpus: Callable[[], int]) -> Value:
    text, origin = line.workers, Origin("argument --workers")
    if text is None and (line.application is not None or line.binds):
        text, origin = environ.get("WEB_CONCURRENCY", "").strip() or None, Origin("environment WEB_CONCURRENCY")
    if text is None:
        return Value("1", _HERE)
    if text == "auto":
        return Value(str(cpus()), origin)
    try:
        read_value(text, integer, at_least(1))
    except ValueError as error:
        raise UsageError(f"{str(origin).removeprefix('argument ')}: {error}; or `auto`") from None
    return Value(text, origin)


def _worker_command(line: Line, names: Sequence[str], worker_options: Sequence[Option]) -> list[str]:
    fds = [word for name in names for word in ("--fd", f"$(circus.sockets.{name})")]
    level = line.master.get("loglevel", ("", ""))[1]
    also = ["--log-level", level] if level and any("--log-level" in each.cli for each in worker_options) else []
    also += [] if line.log_file is None else [line.log_flag, line.log_file]
    return ["forkserve-worker", *fds, *also, *line.worker, line.application or ""]


def _watcher(line: Line, command: Sequence[str], workers: Value) -> Section:
    program = Path(command[0]).name
    name = "web" if program == "forkserve-worker" else re.sub(r"[^\w.-]", "-", program) or "command"
    values = {
        "cmd": Value(shlex.join(command), _HERE, Kind.LIST),
        "numprocesses": workers,
        "copy_env": Value("true", _HERE),
        "use_sockets": Value("true", _HERE),
    }
    given = {"uid": ("--user", line.user), "gid": ("--group", line.group)}
    given["graceful_timeout"] = ("--graceful-timeout", line.graceful_timeout)
    given["drain_delay"] = ("--drain-delay", line.drain_delay)
    given["logs_kept"] = ("--logs-kept", line.logs_kept)
    for key, (flag, text) in given.items():
        if text is not None:
            values[key] = Value(text, Origin(f"argument {flag}"))
    if line.capture_output and line.log_file is not None and is_file(line.log_file):
        origin = Origin("argument --capture-output")
        values |= {f"{stream}_stream.filename": Value(line.log_file, origin) for stream in ("stdout", "stderr")}
    return Section(f"watcher:{name}", values, _HERE, f"watcher:{name}", strict=True)


def _environment(given: Sequence[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--env: expected NAME=VALUE, got {text!r}")
        env[name] = value
    return env


def _refuse_eaten_placeholder(command: Sequence[str], names: Sequence[str]) -> None:
    """Report an unquoted `$(circus.sockets.web)`, which the shell has replaced by its empty output."""
    if not names or sockets_in(" ".join(command)):
        return
    cure = f"the shell has taken the placeholder for itself; quote it: '$(circus.sockets.{names[0]})'"
    for word, after in zip(command, [*command[1:], None], strict=True):
        if word == "--fd" and after and "circus." in after:
            raise UsageError(f"--fd {after}: no placeholder of a socket; say '$(circus.sockets.{names[0]})'")
        if word == "--fd" and (after is None or not after.isdecimal()):
            got = "nothing" if after is None else repr(after)
            raise UsageError(f"--fd is followed by {got} instead of a number: {cure}")
        if word == "" or word.endswith(("--fd=", "fd://")):
            place = f"{word} has no number" if word else "the command has an empty argument"
            raise UsageError(f"{place} and names no socket: {cure}")
