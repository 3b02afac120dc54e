"""The life of one serving process: options in, exit code out.

Order: log, signals, import path, sockets, monkey patches, application, hooks, ready, serve, drain, end.

Rules: everything that may fail fails before READY=1, with one line and its exit code. A signal handler only records the
request. From the moment that draining begins, a real thread (not a greenlet) enforces the deadline.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, MutableMapping
from select import POLLIN, poll
from typing import NoReturn
from weakref import WeakMethod

from forkserve import logs
from forkserve.backends.base import FOREVER, Run, Traits
from forkserve.backends.fitting import unhonoured
from forkserve.backends.preparation import PreparedApp, prepare
from forkserve.backends.registry import Entry
from forkserve.config.handover import WARM, identity_from
from forkserve.config.launch import WorkerOptions
from forkserve.errors import ApplicationError, BackendError, ExitCode, ForkserveError
from forkserve.serving.application.handlers import Handlers, disarm_timers
from forkserve.serving.application.hooks import Hooks
from forkserve.serving.application.importing import prepare_path
from forkserve.serving.autoreload import CodeReloader, can_load
from forkserve.serving.bounded import run_within
from forkserve.serving.engine.forks import end_child
from forkserve.serving.engine.stacks import all_stacks, unfinished_threads
from forkserve.serving.failure import log_trace
from forkserve.serving.inherited import KEPT, InheritedListener, describe, open_listeners
from forkserve.serving.owndescriptors import OwnDescriptors
from forkserve.serving.promotion import take_promotion
from forkserve.serving.stackdump import offer_stacks
from forkserve.unix.home import START, typed_folder
from forkserve.unix.notify import READY_PATIENCE, notify
from forkserve.unix.proctitle import set_title
from forkserve.unix.scoreboard import OwnRecord, take_seat
from forkserve.unix.signalmask import BLOCKED, leave_signals_to_main

__all__ = ["Worker"]

log = logging.getLogger("forkserve.worker")

RELOAD_GRACE = 3.0
"""Seconds that a reload for development waits for requests."""
LAST_WORDS = 2.0
"""Seconds for the log when the process is ended by force: whatever blocks the process may block the log as well."""
LONGEST_HOOK = 3600.0
"""Seconds that a post-hook may take after SIGINT without another limit; a second SIGINT ends it."""


class Worker:
    """One serving process; created and run once, in the main thread."""

    def __init__(self, options: WorkerOptions, environ: MutableMapping[str, str]) -> None:
        self.options = options
        self.environ = environ
        self.folder = typed_folder(environ)
        identity = identity_from(environ)
        self.name = str(identity) if identity is not None else "worker"
        self.pid = os.getpid()
        self.run_: Run | None = None
        self.hooks: Hooks | None = None
        self.listeners: tuple[InheritedListener, ...] = ()
        self.handed: list[socket.socket] = []
        """The listeners of the backend."""
        self.seat: OwnRecord | None = None
        self.reexec = False
        """Whether the process executes itself again once it has drained."""
        self.stopping = False
        """Whether it was told to end, for good."""
        self.promotion = take_promotion(environ)
        """How the master tells it to become a zygote, and whether it has; None if it never will be one."""
        self._given = dict(environ)  # to reach its supervisor, whatever the application changes
        self._withdraw_stacks: Callable[[], None] = lambda: None
        self.on_announced: Callable[[], object] = lambda: None
        """Called when the master has been told that it is ready."""
        self._watching = allocate_lock()
        self._settled = -1
        self.is_retired = False
        """Whether it has drained to become a zygote."""
        self.drained = False
        """Whether all requests are answered, so that only leftovers of the application keep the process alive."""
        self.handlers = Handlers(
            {
                signal.SIGTERM: self._on_drain,
                signal.SIGQUIT: self._on_drain,
                signal.SIGINT: self._on_quick,
                signal.SIGHUP: self._on_reload,
                signal.SIGUSR1: lambda name: logs.reopen(),
            }
        )

    def run(self, prepared: PreparedApp | None = None) -> int:
        """Run; returns the exit code. Raises ForkserveError for what the user can fix before serving.

        `prepared` is what a zygote has imported already.
        """
        logs.set_up(self.options.process.log_level, self.options.process.log_output)
        if self.options.process.python is not None:
            self._become_foreign()
        self.seat = take_seat(self.environ)
        self.handlers.install()
        if prepared is None:
            prepare_path(self.options.application)
        self.listeners = open_listeners(self.options.listen, self.environ)
        own = OwnDescriptors(
            (*(each.fileno() for each in self.listeners), *(self.seat.descriptors if self.seat else ()))
        )
        # What came while this process executed itself again has waited. SIGHUP last: handlers run by number, and what
        # comes with it would be lost in another exec. A parent may have left them blocked, too, which exec keeps.
        for blocked in ((BLOCKED | self.handlers.numbers) - {signal.SIGHUP}, {signal.SIGHUP}):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        close_sockets = WeakMethod(self._in_child)  # a hook cannot be taken back, and would keep a retired worker
        os.register_at_fork(after_in_child=lambda: (close := close_sockets()) and close())
        reloader = CodeReloader(self.options.reload, self._changed) if self.options.reload.use_reloader else None
        try:
            prepared = prepared or prepare(self.options)
        except ApplicationError as error:
            if reloader is None:
                raise
            self._await_change(reloader, error)
        if reloader is not None:
            reloader.start()
        return self._serve(prepared, own)

    def _become_foreign(self) -> NoReturn:
        """Replace this process by the interpreter of `--python`, which serves instead."""
        # imported late: a worker starts sooner without it, and few name another interpreter
        from forkserve.backends.other_python.launch import become

        label = "" if self.name == "worker" else f" {self.name}"
        listeners = open_listeners(self.options.listen, self.environ)
        for each in listeners:
            each.begin()
        fds = [each.fileno() for each in listeners]
        process, application = self.options.process, self.options.application
        become(self.options, fds, f"forkserve: worker{label} {process.backend} {application.application}")

    def _serve(self, prepared: PreparedApp, own: OwnDescriptors) -> int:
        entry, loaded = prepared.entry, prepared.loaded
        self._check_listeners(entry)
        for warning in unhonoured(entry, self.options):
            log.warning("%s: %s", self.name, warning)
        label = "" if self.name == "worker" else f" {self.name}"
        set_title(f"forkserve: worker{label} {entry.name} {loaded.name}")
        run = self._make_run(prepared)
        hooks = self.hooks = Hooks(self.options, backend=entry.name, listeners=self.listeners)
        hooks.before()
        own.require()
        self._settled = os.eventfd(0)  # when it drains, all descriptors may be in use
        self.run_ = run
        if run.seat is not None:
            self._withdraw_stacks = offer_stacks(run.seat)
        try:
            for each in self.listeners:
                each.begin()
            # Duplicates, since libraries close what they are given, and a process that is to go on needs its sockets.
            self.handed = [each.dup() for each in self.listeners]
            self.handlers.reinstall()
            entry.backend().serve(loaded.app, self.handed, run)
        finally:
            if os.getpid() != self.pid:
                end_child(sys.exception())
            self.handlers.reinstall()
            hooks.after()
        if not run.draining:
            log.error("%s: backend %s stopped serving without being asked to", self.name, entry.name)
            return ExitCode.FAILURE
        if not entry.traits.stops_accepting:  # the master would have shut the sockets down under it
            notify("STOPPING=1", self._given)
        return self._after_drain(run)

    def _make_run(self, prepared: PreparedApp) -> Run:
        run = Run(
            self.options.serving,
            name=self.name,
            on_ready=lambda: self._ready(prepared),
            on_begin=lambda: self._begin_drain(prepared.entry.traits),
            on_give_up=self._give_up,
        )
        # A queue that we have bound ourselves has no other reader, whatever the board says.
        run.seat = None if any(each.own for each in self.listeners) else self.seat
        run.on_warm = lambda: notify(f"{WARM}=1", self._given)
        run.say = lambda status: notify(f"STATUS={status}", self._given)
        if not prepared.entry.traits.handles_signals:
            run.hold_signals = self.handlers.reinstall
        run.alone = lambda: not self.reexec and all(each.own for each in self.listeners)
        return run

    def _after_drain(self, run: Run) -> ExitCode:
        """Continue with what comes after serving, if anything does; returns the exit code otherwise."""
        if self.reexec:
            self._reexecute()
        if self.promotion is not None and not run.cut and self.promotion.is_ordered():
            self._retire_as_worker()
            return ExitCode.OK
        self.drained = True
        # The interpreter's end restores the default action, by which a second SIGTERM, or a timer of the application,
        # would spoil the exit code.
        self.handlers.ignore()
        disarm_timers()
        log.info("%s: drained, ending", self.name)
        self._remove_files()
        return ExitCode.TIMED_OUT if run.cut else ExitCode.OK

    def _check_listeners(self, entry: Entry) -> None:
        if len(self.listeners) > 1 and not entry.traits.many_listeners:
            raise BackendError(f"backend {entry.name} serves one socket only, got {len(self.listeners)}")
        if not entry.traits.unix and any(each.family == socket.AF_UNIX for each in self.listeners):
            raise BackendError(f"backend {entry.name} does not serve unix sockets")

    def _ready(self, prepared: PreparedApp) -> None:
        tls = self.options.serving.tls.certfile is not None
        where = ", ".join(describe(each, tls=tls) for each in self.listeners)
        loaded, entry = prepared.loaded, prepared.entry
        if not entry.traits.handles_signals:
            self.handlers.reinstall()
        log.info("%s: serving %s (%s) by %s at %s", self.name, loaded.name, loaded.interface.value, entry.name, where)
        notify("READY=1", self._given, patience=READY_PATIENCE)
        self.on_announced()

    def _begin_drain(self, traits: Traits) -> None:
        run = self.run_
        assert run is not None
        log.info("%s: draining (%s)", self.name, run.drain_reason)
        if traits.stops_accepting:
            notify("STOPPING=1", self._given)
        self._watching.acquire()
        start_new_thread(self._watch_deadline, (run,))

    def _watch_deadline(self, run: Run) -> None:
        """Wait until the graceful timeout is over; the process has normally ended by then, and this thread with it."""
        leave_signals_to_main()
        waiting = poll()
        waiting.register(self._settled, POLLIN)
        if waiting.poll(run.time_left() * 1000):
            self._watching.release()
            return
        if self.reexec:
            self._reexecute()
        threads = ", ".join(map(repr, unfinished_threads()))
        if self.drained:
            what = f"thread {threads}" if threads else "the interpreter's exit"
            log.error("%s: %s has not ended within the graceful timeout of %g s; cut", self.name, what, run.grace)
        else:
            more = f"; threads that still run: {threads}" if threads else ""
            log.error(
                "%s: requests in flight were cut after the graceful timeout of %g s%s", self.name, run.grace, more
            )
        self._leave(ExitCode.TIMED_OUT)

    def _give_up(self, reason: str) -> None:
        """End at once, since what keeps the process alive cannot be ended; called from any thread."""

        def tell() -> None:
            log.error("%s: %s; the process ends and is replaced", self.name, reason)
            log.error("%s: it is here:\n%s", self.name, all_stacks())

        run_within(LAST_WORDS, tell)
        self._leave(ExitCode.TIMED_OUT)

    def _retire_as_worker(self) -> None:
        """Release everything of a worker, since this process will fork workers; its own thread ends, too."""
        os.eventfd_write(self._settled, 1)
        with self._watching:
            os.close(self._settled)
        disarm_timers()
        self.handlers.remove()
        self._withdraw_stacks()
        self._withdraw_stacks = lambda: None
        for each in (*self.handed, *self.listeners):
            each.close()
        if self.run_ is not None:
            self.run_.close()
        self.is_retired = True
        self.run_, self.seat, self.handed, self.listeners = None, None, [], ()
        log.info("%s: drained, becoming the zygote", self.name)

    def _remove_files(self) -> None:
        for each in self.listeners:
            if each.file is not None:
                each.file.remove()

    def _leave(self, code: int) -> NoReturn:
        self._remove_files()
        run_within(LAST_WORDS, logging.shutdown)
        os._exit(code)

    def _in_child(self) -> None:
        """Called in a process that the application has forked: it must not hold the listening sockets."""
        for each in (*self.listeners, *self.handed):
            each.close()

    def _on_drain(self, name: str) -> None:
        if self.run_ is None:
            self._leave(ExitCode.OK)
        if self.stopping:
            self.run_.hurry()
        self.reexec, self.stopping = False, True
        self.run_.drain(name)

    def _on_quick(self, name: str) -> None:
        log.info("%s: ending at once (%s)", self.name, name)
        code = self._run_post_hook() if self.hooks is not None and self.hooks.is_after_due else ExitCode.OK
        self._leave(code)

    def _run_post_hook(self) -> ExitCode:
        """Run the post-hook beside what the main thread was interrupted in, and may have locked."""
        hooks, run = self.hooks, self.run_
        assert hooks is not None
        codes: list[ExitCode] = []

        def call() -> None:
            try:
                hooks.after()
            except ForkserveError as error:
                log_trace(log, getattr(error, "traceback", ""), "%s", error)
                codes.append(error.exit_code)
            else:
                codes.append(ExitCode.OK)

        grace = LAST_WORDS if run is None else run.grace
        run_within(min(max(grace, LAST_WORDS), LONGEST_HOOK), call)
        if not codes:
            log.error("%s: the post-hook has not ended within the graceful timeout; cut", self.name)
        return codes[0] if codes else ExitCode.TIMED_OUT

    def _on_reload(self, name: str) -> None:
        if self.run_ is None:
            self._reexecute()
        if not self.run_.draining:
            start_new_thread(self._rehearse, (name,))

    def _rehearse(self, name: str) -> None:
        """Start to load the code again, unless it is broken: then the old code goes on serving."""
        leave_signals_to_main()
        assert self.run_ is not None
        if not can_load(self.folder):
            log.error("%s: the new code cannot be loaded, serving the old one (%s)", self.name, name)
        elif not self.run_.draining:
            self.reexec = True
            self.run_.drain(name, self._grace())

    def _grace(self) -> float:
        return RELOAD_GRACE if self.options.reload.use_reloader else FOREVER

    def _changed(self, path: str) -> None:
        """Called by the reloader's thread when a source file has changed."""
        log.info("%s: %s changed, loading the code again", self.name, path)
        if self.run_ is None:
            self._reexecute()
        self.reexec = True
        self.run_.drain(f"{path} changed", self._grace())

    def _await_change(self, reloader: CodeReloader, error: ApplicationError) -> NoReturn:
        """Keep the socket while the application is broken, until its source changes."""
        log_trace(log, getattr(error, "traceback", ""), "%s", error)
        log.info("%s: waiting for a change", self.name)
        path = reloader.wait()
        log.info("%s: %s changed, loading the code again", self.name, path)
        self._reexecute()

    def _reexecute(self) -> NoReturn:
        """Become a fresh process of the same pid, on the same sockets, whose queues go on filling meanwhile."""
        # Timers live through exec and handlers do not, so that one of the application's would kill us (execve(2)).
        # Its other threads run on until then, and signals are ours again only once the fresh process has handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        disarm_timers()
        if self.stopping:
            self._leave(ExitCode.OK)
        for each in self.listeners:
            each.set_inheritable(True)
        environ = dict(self.environ) | {KEPT: ",".join(str(each.fileno()) for each in self.listeners)}
        if self.folder is not None:
            environ[START] = self.folder
        if self.seat is not None:
            environ |= self.seat.pass_on()
        run_within(LAST_WORDS, logging.shutdown)
        os.execve(sys.executable, sys.orig_argv, environ)
