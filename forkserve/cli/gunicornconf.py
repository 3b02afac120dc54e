"""Recognises a configuration of Gunicorn, which is Python code, and translates it into a command line of forkserve.

Rules: nothing of the file is executed. A setting with a literal value is translated; the others are listed, with their
lines, for the user to translate.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from forkserve.config.userfiles import read_text

__all__ = ["flag_of", "is_python", "translation", "words_of"]

_FLAGS: Mapping[str, str] = {
    "accesslog": "--access-logfile",
    "access_log_format": "--access-logformat",
    "errorlog": "--error-logfile",
    "loglevel": "--log-level",
    "pidfile": "--pid",
    "preload_app": "--preload",
    "proc_name": "--name",
    "pythonpath": "--pythonpath",
    "raw_env": "--env",
    "keepalive": "--keep-alive",
    "limit_request_field_size": "--limit-request-field_size",
    "proxy_allow_ips": "--proxy-allow-from",
}
"""The flags of settings with another name; all others are `--` and the name with hyphens."""
_SAME = (
    "bind", "backlog", "workers", "worker_class", "threads", "worker_connections", "max_requests",
    "max_requests_jitter", "timeout", "graceful_timeout", "limit_request_line", "limit_request_fields", "reload",
    "reuse_port", "chdir", "daemon", "user", "group", "umask", "forwarded_allow_ips", "capture_output", "paste",
    "proxy_protocol", "keyfile", "certfile", "ca_certs", "ciphers", "root_path", "statsd_host", "statsd_prefix",
)  # fmt: skip


def is_python(path: str) -> bool:
    """Tell whether the value of `-c` is one for Gunicorn: a Python file, `python:MODULE` or `file:PATH`."""
    return path.endswith(".py") or path.startswith(("python:", "file:"))


def translation(path: str) -> str:
    """Return the message for a user who has given such a file to `-c`."""
    said = f"{path} is a configuration of Gunicorn, Python code that forkserve does not run"
    file = shlex.quote(path.removeprefix("file:"))
    advice = f"import it (forkserve import {file} -o forkserve.toml), or give its settings as flags"
    if path.startswith("python:"):
        advice = "give its settings as flags; --print-config then prints them as a file for -c"
    try:
        words, application, left = _translated(Path(path.removeprefix("file:")))
    except (OSError, SyntaxError, ValueError):
        return f"{said}: {advice}"
    line = shlex.join(["forkserve", *words, application])
    rest = f" (yours to translate: {', '.join(left)})" if left else ""
    return f"{said}: {advice}. Here that is: {line}{rest}"


def _translated(path: Path) -> tuple[list[str], str, list[str]]:
    """Return the flags, the application, and the settings without a flag; raises OSError, SyntaxError, ValueError."""
    words: list[str] = []
    left: list[str] = []
    application = "MODULE:APP"
    for name, node in _settings(ast.parse(read_text(path))):
        flag = flag_of(name)
        value = _literal(node)
        if name == "wsgi_app" and isinstance(value, str):
            application = value
        elif flag is not None and value is not ...:
            words += words_of(name, value)
        else:
            left.append(name)
    return words, application, left


def _literal(node: ast.expr | None) -> object:
    """Return the value of a literal; an ellipsis for anything else."""
    try:
        return ... if node is None else ast.literal_eval(node)
    except ValueError:
        return ...


def _settings(module: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the settings of a file, and its hooks without a value."""
    for statement in module.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value
        elif isinstance(statement, ast.FunctionDef):
            yield statement.name, None


def flag_of(name: str) -> str | None:
    """Return the flag of a setting, or None if it has none here."""
    return _FLAGS.get(name) or (f"--{name.replace('_', '-')}" if name in _SAME else None)


def words_of(name: str, value: object) -> list[str]:
    """Return the arguments for a setting with a flag and a value."""
    flag = flag_of(name) or ""
    if value is True:
        return [flag]
    if value is False or value is None:
        return []
    if isinstance(value, list | tuple):
        return [word for each in value for word in (flag, str(each))]
    return [flag, oct(value)[2:] if name == "umask" and isinstance(value, int) else str(value)]
