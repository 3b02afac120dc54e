"""The life of one zygote: import the application once, then fork workers from it on the master's request.

Order: log, import path, monkey patches, application, hooks, findings, collector, ready, orders. It fails like a worker:
with one line and its exit code, before READY=1. In a forked worker the life of that worker follows.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial

from forkserve import logs
from forkserve.backends.preparation import PreparedApp, prepare
from forkserve.backends.registry import Entry
from forkserve.config.handover import identity_from
from forkserve.config.launch import WorkerOptions
from forkserve.errors import BackendError
from forkserve.serving.application.hooks import namespace_of
from forkserve.serving.application.importing import load_callable, prepare_path, run_hook
from forkserve.serving.forksafety import findings, open_descriptors, unfit_to_fork
from forkserve.serving.forkserver import ForkHooks, ForkServer, take_channel
from forkserve.serving.owndescriptors import OwnDescriptors
from forkserve.serving.parser import reader_of
from forkserve.serving.sharing import settle_code, unmap_files
from forkserve.unix.heap import trim_heap
from forkserve.unix.notify import READY_PATIENCE, notify
from forkserve.unix.proctitle import set_title
from forkserve.worker import Worker

__all__ = ["run"]

log = logging.getLogger("forkserve.worker")

LAST_THREADS = 2.0
"""Seconds that the threads of a drained worker have to end."""


def run(
    options: WorkerOptions, environ: MutableMapping[str, str], read: Callable[[Sequence[str]], WorkerOptions]
) -> int:
    """Run as a zygote, and in each process that it forks as a worker; returns the exit code of that.

    `read` parses the arguments of a worker. Raises ForkserveError for what the user can fix before serving.
    """
    begun = time.monotonic()
    logs.set_up(options.process.log_level, options.process.log_output)
    name = str(identity_from(environ) or "zygote")
    set_title(f"forkserve: {name} {options.application.application or ''}".rstrip())
    channel = take_channel(environ)
    own, started_with = OwnDescriptors((channel.fileno(),)), dict(environ)
    before = open_descriptors()
    hooks = ForkHooks(before=partial(_before_fork, options), after=partial(_start_afresh, name))
    server = ForkServer(channel, environ, hooks)
    prepared = _load(options, own)
    for line in findings(before):
        log.warning("%s: %s", name, line)
    settle_code()
    _settle_memory()
    log.info("%s: imported %s in %.2f s", name, prepared.loaded.name, time.monotonic() - begun)
    notify("READY=1", started_with, patience=READY_PATIENCE)
    while True:
        words = tuple(sys.argv)
        server.serve()
        # From here on this is a worker, in a process that was forked.
        options = options if words == tuple(sys.argv) else read(sys.argv[1:])
        worker = _worker(options, environ)
        worker.on_announced = server.pages.note
        code = worker.run(prepared)
        if not worker.is_retired or not _promote(worker, server, name):
            return code
        del worker  # with all that it has served by
        _settle_memory()  # with what a thread of it held until it ended, which must not be frozen
        # And from here on the next zygote, in the same process.


def _load(options: WorkerOptions, own: OwnDescriptors) -> PreparedApp:
    """Import the application, its hooks and what serving needs; raises ForkserveError."""
    application = options.application
    prepare_path(application)
    prepared = prepare(options)
    for text, role in ((application.before_fork, "--before-fork"), (application.after_fork, "--after-fork")):
        if text is not None:
            load_callable(text, role=role)
    own.require()
    _import_ahead(prepared.entry, options)
    return prepared


def _worker(options: WorkerOptions, environ: MutableMapping[str, str]) -> Worker:
    worker = Worker(options, environ)
    if options.application.after_fork is not None:
        run_hook(options.application.after_fork, "--after-fork", namespace_of(options))
    return worker


def _promote(worker: Worker, server: ForkServer, name: str) -> bool:
    """Make a zygote of a worker that has drained; False if that is impossible, which has been reported."""
    promotion = worker.promotion
    assert promotion is not None
    _drop_garbage()  # an object that is dropped may close what it holds, and end a thread
    if found := unfit_to_fork(LAST_THREADS):
        log.error("%s: cannot become the zygote: %s", worker.name, found)
        return False
    set_title(f"forkserve: {name} {worker.options.application.application or ''}".rstrip())
    try:
        server.renew(promotion.channel.detach())
        server.announce()
    except OSError as error:
        log.error("%s: cannot become the zygote: %s", worker.name, error.strerror or error)
        return False
    return True


def _import_ahead(entry: Entry, options: WorkerOptions) -> None:
    """Import what each worker would import before it is ready; what cannot be imported is reported by the worker."""
    entry.backend()
    for name in entry.traits.imports:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(BackendError):
        reader_of(options.serving.parser.parser)


def _drop_garbage() -> None:
    gc.unfreeze()  # in a worker that was forked, what is garbage by now was frozen by the zygote
    gc.collect()


def _settle_memory() -> None:
    """Keep the number of pages small that workers write to, and so copy."""
    _drop_garbage()
    trim_heap()  # each child would write to free memory itself otherwise
    unmap_files()
    gc.freeze()


def _start_afresh(name: str) -> None:
    """Reset what must differ between two workers; Python's own random numbers are seeded again at each fork."""
    set_title(f"forkserve: {name} spare")
    _disown_processes()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    if "gevent" in sys.modules:
        import gevent

        gevent.reinit()


def _disown_processes() -> None:
    """Forget processes that multiprocessing has started in the zygote, as it does in its own children.

    Its `atexit` function would end or join them when this worker ends, and the zygote and other workers use them.
    """
    started = sys.modules.get("multiprocessing.process")
    if started is not None:
        getattr(started, "_children", set()).clear()


def _before_fork(options: WorkerOptions) -> None:
    if options.application.before_fork is not None:
        run_hook(options.application.before_fork, "--before-fork", namespace_of(options))
