"""Reads gunicorn.conf.py, Python code, by executing it in a separate process.

Rules: the code runs with the user's rights, since it is the user's, but in a separate session, with a deadline, and its
output goes to stderr. Settings become flags of the short form, so each has the same meaning as there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forkserve.cli.arguments import parse_line
from forkserve.cli.gunicornconf import flag_of, words_of
from forkserve.cli.importing.circus import add_sections
from forkserve.cli.importing.draft import Draft
from forkserve.cli.line import source_of
from forkserve.cli.peers import advice
from forkserve.config.document import Section, Value
from forkserve.config.load import LineSource
from forkserve.config.options import Origin
from forkserve.config.reference import worker_options
from forkserve.errors import ConfigError, UsageError

__all__ = ["read_gunicorn"]

_PROGRAM = """\
import json, os, runpy, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.insert(0, os.getcwd())
names = runpy.run_path(sys.argv[1], {"__file__": sys.argv[1]}, "__config__")
def plain(value):
    try:
        return {"value": json.loads(json.dumps(value))}
    except (TypeError, ValueError):
        return {}
json.dump({name: plain(value) for name, value in names.items() if name[:1] != "_"}, out)
out.close()
"""
_HOOKS: Mapping[str, str] = {
    "post_fork": "use --after-fork, or --pre-hook for each worker",
    "pre_fork": "use --before-fork, with preload",
    "post_worker_init": "use --pre-hook",
    "worker_exit": "use --post-hook",
    "child_exit": "read `forkservectl events -f`",
    "worker_abort": "the stack is logged in any case",
    "worker_int": "use --post-hook",
    "when_ready": "read `forkservectl events -f`, or use READY of systemd",
    "on_starting": "run it before forkserve starts",
    "on_reload": "run it before forkservectl reload",
    "on_exit": "run it after forkserve has ended",
    "pre_exec": "read `forkservectl events -f`",
    "nworkers_changed": "read `forkservectl events -f`",
    "pre_request": "use a middleware in the application",
    "post_request": "use a middleware in the application",
    "ssl_context": "use certfile, keyfile, ca_certs and ciphers",
}
_LOGGING = "the application configures its logging itself; ours is set by --log-level and --log-output"
_NOTES: Mapping[str, str] = {
    "logconfig": _LOGGING,
    "logconfig_dict": _LOGGING,
    "logconfig_json": _LOGGING,
    "secure_scheme_headers": "X-Forwarded-Proto and Forwarded are understood, of proxies in --forwarded-allow-ips",
    "syslog": "send the log to syslog by --log-output syslog:",
    "cert_reqs": "ca_certs asks clients for a certificate",
    "ssl_version": "TLS 1.2 and later are spoken",
    "tmp_upload_dir": "large bodies go to TMPDIR",
}
_SKIPPED = ("errorlog", "chdir", "wsgi_app")
"""Settings with a place outside of the line."""


def read_gunicorn(path: Path, draft: Draft, timeout: float) -> None:
    """Add a file to the draft; `timeout` is in seconds; raises ConfigError and OSError."""
    found = _executed(path, timeout)
    words: list[str] = []
    for name, said in found.items():
        if name in _HOOKS:
            draft.note(name, _HOOKS[name])
        elif name in _SKIPPED:
            continue
        elif flag_of(name) is None:
            hint = _NOTES.get(name) or advice(f"--{name.replace('_', '-')}")
            if hint and said.get("value", ...) not in (None, False):
                draft.note(name, hint)
        elif "value" not in said:
            draft.note(name, "its value is no text or number; write it by hand")
        else:
            words += _accepted(name, words_of(name, said["value"]), draft)
    application = found.get("wsgi_app", {}).get("value")
    if not application:
        draft.note("wsgi_app", "the file names no application; put yours in place of MODULE:APP in cmd")
    _add(words, application or "MODULE:APP", found, draft)


def _accepted(name: str, words: list[str], draft: Draft) -> list[str]:
    """Return the flags of one setting, or note why it is refused, in the words of the command line."""
    try:
        _source([*words, "MODULE:APP"]).read()
    except (UsageError, ConfigError) as error:
        draft.note(name, str(error))
        return []
    return words


def _source(words: list[str]) -> LineSource:
    source = source_of(parse_line(words, worker_options()), {}, cpus=lambda: 1, worker_options=worker_options())
    if not isinstance(source, LineSource):
        raise UsageError("-c is no setting")
    return source


def _add(words: list[str], application: str, found: Mapping[str, Mapping[str, Any]], draft: Draft) -> None:
    source = _source([*words, application])
    errorlog, folder = (found.get(name, {}).get("value") for name in ("errorlog", "chdir"))
    sections = source.sections
    if errorlog and errorlog != "-":
        sections = (_with(Section("circus", {}, Origin(""), "forkserve"), "logoutput", errorlog), *sections)
    if folder:
        sections = tuple(_with(each, "working_dir", folder) if each.kind == "watcher" else each for each in sections)
    add_sections(_merged(sections), draft)
    draft.add("env", values=dict(source.env))


def _with(section: Section, key: str, text: object) -> Section:
    return dataclasses.replace(section, values={**section.values, key: Value(str(text), Origin(""))})


def _merged(sections: tuple[Section, ...]) -> list[Section]:
    """Join the sections of one title."""
    found: dict[str, Section] = {}
    for each in sections:
        first = found.get(each.title, each)
        found[each.title] = dataclasses.replace(first, values={**first.values, **each.values})
    return list(found.values())


def _executed(path: Path, timeout: float) -> dict[str, dict[str, Any]]:
    # opened first, for an error that says so
    with path.open("rb"):
        pass
    argv = [sys.executable, "-c", _PROGRAM, str(path.absolute())]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True) as child:
        try:
            output, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{path}: has not ended within {timeout:g} seconds (--timeout SECONDS)") from None
        finally:
            # what the code has started ends with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    try:
        found = json.loads(output)
    except ValueError:
        found = None
    if child.returncode != 0 or not isinstance(found, dict):
        raise ConfigError(f"{path}: failed when it was executed (its own words stand above)")
    return found
