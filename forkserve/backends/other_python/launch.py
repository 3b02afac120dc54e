"""Becomes a foreign worker: checks the other interpreter, writes its command line, and executes it in place of this
process.

The descriptors and the pid stay, so the master sees no difference. Only this module of the folder runs in forkserve.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from forkserve.backends.other_python.servers import BACKENDS
from forkserve.config.launch import WorkerOptions
from forkserve.errors import BackendError, UsageError

__all__ = ["FOLDER", "HONOURED", "become", "command_line", "interpreter"]

log = logging.getLogger("forkserve.worker")

FOLDER = Path(__file__).parent
OLDEST = (3, 8)
HONOURED = frozenset(
    {"application", "factory", "python_path", "chdir", "pre_hook", "post_hook", "backend", "python", "fd", "bind",
     "host", "port", "uds", "backlog", "address_family", "socket_type", "threads", "graceful_timeout", "keep_alive",
     "max_body", "interface", "log_level", "log_output"}
)  # fmt: skip


def interpreter(path: str) -> str:
    """Return the interpreter's full path; raises UsageError if it is not one, BackendError if it is too old."""
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        state = "is not executable" if os.path.exists(path) else "does not exist"
        raise UsageError(f"--python {path}: it {state}")
    probe = "import json, sys; print(json.dumps([sys.executable] + list(sys.version_info[:2])))"
    try:
        done = subprocess.run([found, "-c", probe], capture_output=True, text=True, timeout=30)
        executable, major, minor = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise UsageError(f"--python {found}: it is no Python interpreter") from None
    if (major, minor) < OLDEST:
        raise BackendError(f"--python {found}: Python {major}.{minor} is too old, 3.8 is the oldest")
    return str(executable)  # `found` may be a script that chooses one


def command_line(python: str, options: WorkerOptions, fds: Sequence[int], title: str) -> list[str]:
    """Return the argument vector of the foreign worker; raises UsageError for options it does not support."""
    backend = options.process.backend
    if backend not in BACKENDS:
        known = ", ".join(sorted(BACKENDS))
        raise UsageError(f"--python serves with --backend {known}; not with {backend or 'none named'}")
    application, serving = options.application, options.serving
    if application.application is None or application.config is not None:
        raise UsageError("--python serves an application named as module:attr or path/to/file.py[:attr]")
    words = [python, str(FOLDER), "--backend", backend, "--title", title]
    words += [word for fd in fds for word in ("--fd", str(fd))]
    words += [word for folder in application.python_path for word in ("--python-path", folder)]
    for flag, value in (
        ("--chdir", application.chdir),
        ("--pre-hook", application.pre_hook),
        ("--post-hook", application.post_hook),
    ):
        words += [flag, value] if value else []
    words += ["--factory"] if application.factory else []
    words += ["--threads", str(max(serving.concurrency.threads, 1))]
    words += ["--graceful-timeout", str(serving.timeouts.graceful_timeout)]
    words += ["--keep-alive", str(serving.timeouts.keep_alive), "--max-body", str(serving.http.max_body)]
    return [*words, application.application]


def become(options: WorkerOptions, fds: Sequence[int], title: str) -> NoReturn:
    """Execute the interpreter that `options.process.python` names in place of this process, serving on `fds`.

    Raises UsageError or BackendError with one line while nothing has changed yet.
    """
    python = interpreter(options.process.python or sys.executable)
    words = command_line(python, options, fds, title)
    for name in sorted(options.given.keys() - HONOURED):
        log.warning("%s has no effect under another interpreter (--python)", options.given[name])
    for fd in fds:
        os.set_inheritable(fd, True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, words)
