"""The loop and its dispatch: one event, one step. Everything that the master does begins here.

Theory of operation. One thread waits in one place (`supervision.os.loop`) for signals, messages of children
(sd_notify), whatever else has been registered (the control socket), and the next deadline. Signals mean what Unicorn and nginx mean by them;
SIGNALS is the table. A stop goes through the watchers in reverse order of priority, a group at a time, and ends when no
descendant is left; the sockets close last, in `app`.

For the control interface, `master.loop` offers `watch`, `unwatch`, `call_at`, `call_later`. `views()` and `view(name)`
return frozen pictures (`views.WatcherView`), `stack.pool` has the sockets. The verbs below never block; those that take
time return a `Ticket`, which the loop completes with a line of text or a ForkserveError. Operations on one watcher
queue up, and a stop supersedes them; those on different watchers run side by side (`operations`).
"""

from __future__ import annotations

import logging
import selectors
import signal
from collections.abc import Callable, Mapping

from forkserve import logs
from forkserve.config.load import ConfigSource
from forkserve.errors import ControlError, ExitCode
from forkserve.supervision.auxiliaries import Attendants
from forkserve.supervision.completion import Ticket, all_of
from forkserve.supervision.jobs import Operation, Queue, Reload, Resize, Restart, Start, Stop
from forkserve.supervision.lifecycle import MASTER, Effect, MasterEvent, MasterState, step
from forkserve.supervision.orphans import Sweep
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.reap import reap
from forkserve.supervision.os.signals import SignalQueue, has_terminal
from forkserve.supervision.process import signal_name
from forkserve.supervision.reload import reload_all, reload_config
from forkserve.supervision.snapshot import WatcherView
from forkserve.supervision.supervisor import Stack
from forkserve.unix.notify import notify

__all__ = ["SIGNALS", "Master"]

log = logging.getLogger("forkserve.master")

SIGNALS: Mapping[int, str] = {
    signal.SIGTERM: "stop",
    signal.SIGQUIT: "stop",
    signal.SIGINT: "stop; a second time: end at once",
    signal.SIGHUP: "read the configuration again, replace processes one by one",
    signal.SIGUSR1: "reopen log files",
    signal.SIGUSR2: "nothing yet",
    signal.SIGWINCH: "stop the watchers with sockets, keep the sockets; HUP starts them again; at a terminal: nothing",
    signal.SIGTTIN: "one process more in the first watcher with sockets",
    signal.SIGTTOU: "one process less there",
    signal.SIGCHLD: "collect the dead",
}
"""What each signal does to the master; any other has its default effect."""


AT_A_TIME = 0.02
"""Seconds of starting watchers at a stretch; then signals and control have their turn."""


class Master:
    """Supervises a stack from `run` until it is told to stop, or has to give up."""

    def __init__(
        self,
        stack: Stack,
        loop: Loop,
        signals: SignalQueue,
        *,
        attendants: Attendants,
        source: ConfigSource,
    ) -> None:
        self.stack = stack
        self.loop = loop
        self.state = MasterState.RUNNING
        self.started_at = loop.now()
        self.exit_code = ExitCode.OK
        self._signals = signals
        self._attendants = attendants
        self._source = source
        self._to_start: list[Queue] = []
        self._to_stop: list[list[Queue]] = []
        self._starts: list[Ticket] = []
        self._paused: list[Queue] = []
        self._reloading: Ticket | None = None
        self._reload_again = False
        self._stopping: list[Queue] = []
        self._sweep = Sweep(loop, self._go_on_stopping)
        stack.on_settled = self._settled
        self.on_booted: Callable[[], None] = lambda: None
        """Called when all that is to be started has become ready, or has been given up, and something runs."""
        self._handlers: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self.quit,
            signal.SIGQUIT: self.quit,
            signal.SIGINT: self._interrupted,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self.reopen_logs,
            signal.SIGUSR2: lambda: log.warning("SIGUSR2: an upgrade in place is not served yet"),
            signal.SIGWINCH: self._pause_web,
            signal.SIGTTIN: lambda: self._resize_web(+1),
            signal.SIGTTOU: lambda: self._resize_web(-1),
            signal.SIGCHLD: self._reap,
        }

    def run(self) -> ExitCode:
        """Start what is to be started, and serve until all is over; returns what the exit status means."""
        self.loop.watch(self._signals.fileno(), selectors.EVENT_READ, lambda _events: self._take_signals())
        self._to_start = [
            queue for group in self.stack.by_priority() for queue in group if queue.watcher.options.autostart
        ]
        self._start_next()
        self.stack.settle()
        self.loop.run()
        return self.exit_code

    # What control asks.

    @property
    def name(self) -> str:
        """What it is called, or an empty text."""
        return self.stack.config.master.name or ""

    @property
    def description(self) -> str:
        """What it runs."""
        return self._source.path or self._source.description

    def views(self) -> tuple[WatcherView, ...]:
        """Return a picture of every watcher, in the order of the configuration."""
        return tuple(watcher.view() for watcher in self.stack.watchers)

    def view(self, name: str) -> WatcherView:
        """Return a picture of one watcher; raises ControlError for an unknown name."""
        return self.stack.queue(name).watcher.view()

    # Verbs. `name` None means all watchers; an unknown one raises ControlError.

    def start(self, name: str | None = None) -> Ticket:
        """Start; done when the processes are ready."""
        return self._submit(name, Start, "started")

    def stop(self, name: str | None = None) -> Ticket:
        """Stop; done when nothing of it is left. The sockets stay open."""
        return self._submit(name, Stop, "stopped")

    def restart(self, name: str | None = None) -> Ticket:
        """Stop, then start."""
        return self._submit(name, Restart, "restarted")

    def reload(self, name: str | None = None) -> Ticket:
        """Replace the processes one by one; for all, of those watchers that can be replaced without a gap."""
        self._refuse_when_stopping()
        return reload_all(self.stack) if name is None else self.stack.queue(name).submit(Reload())

    def reload_config(self, *, processes: bool = False) -> Ticket:
        """Read the configuration again and change what differs."""
        self._refuse_when_stopping()
        return reload_config(self.stack, self._source, processes=processes)

    def set_numprocesses(self, name: str, number: int) -> Ticket:
        """Keep another number of processes."""
        self._refuse_when_stopping()
        if number < 0:
            raise ControlError(f"numprocesses must be at least 0, got {number}")
        return self.stack.queue(name).submit(Resize(number))

    def incr(self, name: str, number: int = 1) -> Ticket:
        """Run so many more."""
        return self.set_numprocesses(name, self.stack.queue(name).watcher.target + number)

    def decr(self, name: str, number: int = 1) -> Ticket:
        """Run so many fewer, down to none."""
        return self.set_numprocesses(name, max(0, self.stack.queue(name).watcher.target - number))

    def signal(self, name: str, signum: int, *, pid: int | None = None, wid: int | None = None) -> str:
        """Send a signal to all processes of a watcher, or to the one of a pid or wid; returns what was done."""
        watcher = self.stack.queue(name).watcher
        count = watcher.signal(signum, only=lambda each: pid in (None, each.pid) and wid in (None, each.identity.wid))
        if not count:
            raise ControlError(f"{watcher.name}: no such process")
        return f"{watcher.name}: {signal_name(signum)} sent to {count} of {len(watcher.processes)}"

    def reopen_logs(self) -> None:
        """Open every log file anew: ours, those of captured output, and those of the workers that can."""
        logs.reopen()
        self._attendants.reopen()
        for watcher in self.stack.watchers:
            watcher.signal(signal.SIGUSR1, only=lambda each: each.said_ready)
        log.info("log files opened anew")

    def quit(self) -> None:
        """Stop everything in order, then end."""
        self._on(MasterEvent.STOP)

    def _submit(self, name: str | None, operation: Callable[[], Operation], result: str) -> Ticket:
        self._refuse_when_stopping()
        if name is not None:
            return self.stack.queue(name).submit(operation())
        queues = [queue for group in self.stack.by_priority() for queue in group]
        return all_of([queue.submit(operation()) for queue in queues], result)

    def _refuse_when_stopping(self) -> None:
        if self.state is not MasterState.RUNNING:
            raise ControlError("forkserve is stopping")

    # Events.

    def _take_signals(self) -> None:
        for signum in self._signals.take():
            handler = self._handlers.get(signum)
            if signum == signal.SIGWINCH and has_terminal():
                log.debug("SIGWINCH: a window has changed its size, most likely; ignored at a terminal")
            elif handler is not None:
                if signum != signal.SIGCHLD:
                    log.info("%s: %s", signal.Signals(signum).name, SIGNALS[signum])
                handler()
        self.stack.settle()

    def _reap(self) -> None:
        exits = reap()
        for each in exits:
            self._attendants.reaped(each.pid)
        self.stack.reaped(exits)
        self.stack.settle()
        if self.state is not MasterState.RUNNING:
            self._go_on_stopping()

    def _settled(self) -> None:
        if self.state is not MasterState.RUNNING:
            self._go_on_stopping()
            return
        hopeless = () if self._to_start else self.stack.hopeless
        if hopeless:
            log.error("nothing is left to run, giving up: %s", "; ".join(each.last_failure for each in hopeless))
            codes = {each.outlook.code for each in hopeless}
            self.exit_code = ExitCode(codes.pop() or ExitCode.GAVE_UP) if len(codes) == 1 else ExitCode.GAVE_UP
            self._on(MasterEvent.STOP)

    def _start_next(self) -> None:
        delay = self.stack.config.master.warmup_delay
        enough = self.loop.now() + AT_A_TIME
        while self._to_start and self.state is MasterState.RUNNING:
            queue = self._to_start.pop(0)
            if queue not in tuple(self.stack):  # a reload has removed it meanwhile
                continue
            self._starts.append(queue.submit(Start()))
            if self._to_start and (delay > 0 or self.loop.now() > enough):
                self.loop.call_later(delay, self._start_next)
                return
        all_of(self._starts, "started").when_done(lambda _ticket: self._booted())

    def _booted(self) -> None:
        if self.state is MasterState.RUNNING and not self.stack.hopeless:
            notify("READY=1")
            self.on_booted()

    def _interrupted(self) -> None:
        self._on(MasterEvent.STOP if self.state is MasterState.RUNNING else MasterEvent.TERMINATE)

    def _hang_up(self) -> None:
        if self.state is not MasterState.RUNNING:
            return
        if self._reloading is not None and not self._reloading.done:
            self._reload_again = True
            return
        notify(f"RELOADING=1\nMONOTONIC_USEC={int(self.loop.now() * 1e6)}")
        paused, self._paused = self._paused, []
        reload = reload_config(self.stack, self._source)
        # Afterwards, so that they start once, as what they are to be now.
        starts = [queue.submit(Start()) for queue in paused if queue in tuple(self.stack)]
        self._reloading = all_of([reload, *starts], "reloaded")
        self._reloading.when_done(self._reloaded)

    def _reloaded(self, _ticket: Ticket) -> None:
        notify("READY=1")
        if self._reload_again:
            self._reload_again = False
            self.loop.call_later(0.0, self._hang_up)

    def _web(self) -> list[Queue]:
        return [queue for queue in self.stack if queue.watcher.command.all_sockets]

    def _pause_web(self) -> None:
        for queue in self._web():
            if self.state is MasterState.RUNNING and queue.watcher.up:
                self._paused.append(queue)
                queue.submit(Stop())

    def _resize_web(self, change: int) -> None:
        queues = self._web() or list(self.stack)
        if queues and self.state is MasterState.RUNNING:
            # the wish counts from one on: TTOU is no way to stop a watcher
            queues[0].submit(Resize(max(1, queues[0].watcher.target + change)))

    # The end.

    def _on(self, event: MasterEvent) -> None:
        self.state, effects = step(MASTER, self.state, event)
        for effect in effects:
            if effect is Effect.STOP_ALL:
                notify("STOPPING=1")
                self._to_start.clear()
                self._to_stop = self.stack.by_priority()
                self._go_on_stopping()
            elif effect is Effect.KILL_ALL:
                self.exit_code = self.exit_code or ExitCode.FAILURE
                self._to_stop.clear()
                for watcher in self.stack.watchers:
                    watcher.kill()
                self._go_on_stopping()
            elif effect is Effect.CLOSE:
                log.info("stopped")
                self.loop.stop()

    def _go_on_stopping(self) -> None:
        """Stop the next group when the one before has gone; when all have, end whatever else descends from us."""
        while self._to_stop and all(queue.watcher.is_gone for queue in self._stopping):
            self._stopping = self._to_stop.pop()
            for queue in self._stopping:
                queue.submit(Stop())
        if self._to_stop or not self.stack.is_gone:
            return
        quick = self.state is MasterState.TERMINATING
        if self._sweep.is_over(spared=self._attendants.pids, quick=quick):
            self._attendants.close()
            if not self._attendants.pids:
                self._on(MasterEvent.CHILDLESS)
