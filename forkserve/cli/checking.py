"""What `forkserve check` examines besides the configuration itself: the command lines of its workers.

Rules: no user code is imported, and nothing is bound. A fault is one that would end the worker, in the worker's words;
what only another interpreter knows is not checked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from forkserve.backends.fitting import require_certificate
from forkserve.backends.registry import find, state_of
from forkserve.backends.serving import header_rule_of, trusted_by
from forkserve.cli.chaussette import judge_chaussette_line
from forkserve.cli.serving import flags_of, read_worker_line
from forkserve.cli.spellings import as_typed
from forkserve.config.document import Findings
from forkserve.config.launch import WorkerOptions
from forkserve.config.model import Config, WatcherOptions
from forkserve.config.options import Origin
from forkserve.config.placeholders import expand, names_in, unknown_names
from forkserve.config.serving import ServingOptions
from forkserve.config.system import find_program
from forkserve.config.values import is_file, words
from forkserve.config.virtualenv import read_virtualenv
from forkserve.errors import ConfigError, ForkserveError, UsageError
from forkserve.serving.application.presence import fault_of
from forkserve.serving.engine.access import require_format
from forkserve.serving.engine.tls import tls_context

__all__ = ["examine"]

_READERS = {"forkserve-worker": read_worker_line, "chaussette": judge_chaussette_line}
"""Parsers of the command line of each serving program."""


def examine(config: Config, environ: Mapping[str, str], findings: Findings) -> None:
    """Report what is wrong with the command line of each worker; `environ` is the master's environment."""
    for watcher in config.watchers:
        title = f"watcher:{watcher.name}"
        origin = config.origins.get((title, "cmd"), Origin("command line"))
        for fault in _faults(watcher, environ):
            findings.error(origin, fault, label=config.labels.get(title, title), key="cmd")


def _faults(watcher: WatcherOptions, environ: Mapping[str, str]) -> list[str]:
    line = _worker_line(watcher)
    if line is None:
        return []
    program, argv = line
    env = _environment(watcher, environ)
    is_ours = _is_ours(find_program(program, env.get("PATH", os.defpath)))
    if Path(program).name == "chaussette" and not is_ours:  # it may be Chaussette itself, which has other flags
        return []
    try:
        order, faults = _READERS[Path(program).name](argv, env)
    except UsageError as error:
        return [str(error)]
    except SystemExit:  # --help and --version
        return []
    if order.list_backends or order.install_backend or order.check:
        return faults
    ours = order.options.process.python is None and is_ours
    found = [*_fd_faults(order.options), *_worker_faults(order.options, watcher, env, ours=ours)]
    return faults + [as_typed(fault, flags_of(order.options)) for fault in found]


def _environment(watcher: WatcherOptions, environ: Mapping[str, str]) -> dict[str, str]:
    env = {**(environ if watcher.copy_env else {}), **watcher.env}
    if watcher.virtualenv is not None:
        with suppress(ConfigError):  # noted already, where the program is looked for
            env |= read_virtualenv(os.path.abspath(watcher.virtualenv), watcher.virtualenv_py_ver).variables(env)
    return env


def _worker_line(watcher: WatcherOptions) -> tuple[str, list[str]] | None:
    """Return the worker's program and arguments, if a watcher starts a worker, directly or through another program."""
    if watcher.shell or (watcher.working_dir and names_in(watcher.working_dir)):
        return None
    text = f"{watcher.cmd} {watcher.args}"
    known = set(names_in(text)) - set(unknown_names(text))
    values = {name: str(getattr(watcher, name.replace(".", "_"), None) or "1") for name in known}
    try:
        argv = words(expand(text, values))
    except ValueError:  # noted by the consistency check
        return None
    for number, word in enumerate(argv):
        if Path(word).name in _READERS:
            return word, list(argv[number + 1 :])
    return None


def _fd_faults(options: WorkerOptions) -> list[str]:
    """Check the descriptors on the line, where all placeholders have become numbers."""
    return [
        f"--fd {each}: neither a number nor the placeholder of a socket, as $(circus.sockets.web) is"
        for each in options.listen.fd
        if not each.isdecimal()
    ]


def _is_ours(program: str | None) -> bool:
    """Tell whether a worker runs under our interpreter, with the same packages."""
    return program is not None and os.path.dirname(os.path.abspath(program)) == os.path.dirname(sys.executable)


def _worker_faults(options: WorkerOptions, watcher: WatcherOptions, env: Mapping[str, str], *, ours: bool) -> list[str]:
    start = Path(watcher.working_dir or ".").absolute()
    application = options.application
    folder = start / (application.chdir or ".")
    if not folder.is_dir():
        return [f"--chdir: no such directory: {folder}"]
    checks: list[Callable[[], str | None]] = [
        lambda: _application_fault(options, folder, env, ours=ours),
        lambda: _log_fault("--log-output", options.process.log_output, start),
        *_serving_checks(options.serving, folder),
    ]
    if ours and options.process.backend is not None:
        checks.append(lambda: _backend_fault(options.process.backend or ""))
    return [fault for fault in map(_said, checks) if fault]


def _said(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except ForkserveError as error:
        return str(error)


def _application_fault(options: WorkerOptions, folder: Path, env: Mapping[str, str], *, ours: bool) -> str | None:
    application = options.application
    name = application.application
    if application.config is not None:
        name = f"paste:{application.config}"
    if name is None:
        return "no application given; name it as in myapp:app"
    if not ours and ".py" not in name and "/" not in name and not name.startswith("paste:"):
        return None
    path = [str(folder / each) for each in application.python_path]
    for each in path:
        if not os.path.exists(each):
            return f"--python-path: {each} does not exist"
    return fault_of(name, folder, [*path, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *sys.path])


def _backend_fault(name: str) -> str | None:
    entry = find(name)
    state = state_of(entry.traits)
    if state.usable:
        return None
    cure = f"; try: {state.cure}" if state.cure else ""
    return f"backend {entry.name} cannot serve here: {state.reason}{cure}"


def _log_fault(flag: str, place: str | None, folder: Path) -> str | None:
    if place is None or not is_file(place):
        return None
    parent = (folder / place).parent
    return None if parent.is_dir() else f"{flag}: no such directory: {parent}"


def _serving_checks(serving: ServingOptions, folder: Path) -> Sequence[Callable[[], str | None]]:
    return [
        lambda: _static_fault(serving.static.static, folder),
        lambda: _log_fault("--access-log", serving.access_log.access_log, folder),
        lambda: _format_fault(serving.access_log.access_log_format),
        lambda: _proxy_fault(serving),
        lambda: _tls_fault(serving, folder),
    ]


def _static_fault(static: Sequence[tuple[str, str]], folder: Path) -> str | None:
    missing = [f"{url}={path}" for url, path in static if not (folder / path).is_dir()]
    return f"--static {missing[0]}: no such directory" if missing else None


def _format_fault(text: str) -> str | None:
    require_format(text)
    return None


def _proxy_fault(serving: ServingOptions) -> str | None:
    trusted_by(serving.proxy)
    header_rule_of(serving.proxy)
    return None


def _tls_fault(serving: ServingOptions, folder: Path) -> str | None:
    require_certificate(serving.tls)
    if serving.tls.certfile is None:
        return None
    tls_context(serving.tls, folder)
    return None
