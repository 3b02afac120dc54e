"""Prepares what a worker serves: chooses the backend, applies patches, loads the application.

Rules: everything that may fail raises a ForkserveError, in one line and with its exit code, before a socket is served.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from forkserve import logs
from forkserve.backends import registry
from forkserve.backends.fitting import require, require_fit, unhonoured
from forkserve.backends.registry import Entry
from forkserve.config.launch import WorkerOptions
from forkserve.errors import BackendError
from forkserve.serving.application.importing import Loaded, load_application, prepare_path

__all__ = ["PreparedApp", "check", "patch", "prepare"]

log = logging.getLogger("forkserve.worker")


@dataclass(frozen=True, slots=True)
class PreparedApp:
    """An application, and its backend."""

    loaded: Loaded
    entry: Entry


def prepare(options: WorkerOptions) -> PreparedApp:
    """Choose the backend, apply its patches, load the application; raises ForkserveError."""
    named = registry.find(options.process.backend) if options.process.backend else None
    if named is not None:
        require(named)
        if named.traits.monkey_patches and not options.process.no_monkey:
            patch()
    loaded = load_application(options.application)
    entry = named or registry.choose(loaded.interface, threads=options.serving.concurrency.threads)
    require_fit(entry, loaded, options)
    return PreparedApp(loaded, entry)


def check(options: WorkerOptions) -> str:
    """Load what would be served, and report it in one line; raises ForkserveError."""
    logs.set_up(options.process.log_level, options.process.log_output)
    prepare_path(options.application)
    prepared = prepare(options)
    for warning in unhonoured(prepared.entry, options):
        log.warning("%s", warning)
    return f"{prepared.loaded.name}: fine ({prepared.loaded.interface.value}, served by {prepared.entry.name})"


def patch() -> None:
    """Let gevent replace the blocking parts of the standard library, before the application can import them.

    Raises BackendError if it is too late: an imported module keeps what it has.
    """
    late = sorted({"flask", "django", "requests", "urllib3", "psycopg2", "redis"} & set(sys.modules))
    if late:
        raise BackendError(f"it is too late for gevent's patches: {', '.join(late)} is imported already")
    from gevent import monkey

    monkey.patch_all()
