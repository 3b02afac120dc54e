"""The loop and its dispatch: one event, one step. Everything that the master does begins here.

Theory of operation. One thread waits in one place (`supervision.os.loop`) for signals, messages of children
(sd_notify), other registered descriptors (the control socket), and the next deadline. Signals have the meaning that
they have for Unicorn and nginx (`supervision.os.signals`). A stop goes through the watchers in reverse order of
priority, a group at a time, and ends when no descendant is left; the sockets close last, in `bootstrap`.

For the control interface, `master.loop` offers `watch`, `unwatch`, `call_at`, `call_later`. `views()` and `view(name)`
return frozen views (`snapshot.WatcherView`), `supervisor.pool` has the sockets. The verbs below never block; those
that take time return a `Completion`, which the loop completes with a line of text or a ForkserveError. Jobs on one
watcher queue up, and a stop supersedes them; those on different watchers run side by side (`jobs`).
"""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from forkserve import logs
from forkserve.config.load import ConfigSource
from forkserve.errors import ControlError, ExitCode
from forkserve.supervision.auxiliaries.auxiliaries import Attendant, AuxiliaryProcesses
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.completion import Completion, all_of
from forkserve.supervision.events import GaveUp, LogsReopened, MasterStopped, SignalReceived
from forkserve.supervision.jobqueue.progress import progress_of
from forkserve.supervision.jobqueue.turns import JobTurns
from forkserve.supervision.jobs.advance import Job, Reload, Restart, Start, Stop
from forkserve.supervision.lifecycle import MASTER, Effect, MasterState, MasterTrigger, step
from forkserve.supervision.maintenance.holding import hold
from forkserve.supervision.maintenance.maintenance import Maintenance
from forkserve.supervision.metrics.observatory import Observatory
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.signals import SIGNALS, SignalQueue, has_terminal
from forkserve.supervision.reaping import Reaper
from forkserve.supervision.reload.reloader import Reloader
from forkserve.supervision.reload.requests import ChangeRequest
from forkserve.supervision.repair import Repairs
from forkserve.supervision.shutdown.ordered import OrderedStop
from forkserve.supervision.snapshot import WatcherView
from forkserve.supervision.startup import Startup
from forkserve.supervision.state.completions import CompletionReader, CompletionWriter
from forkserve.supervision.supervisor import Supervisor
from forkserve.supervision.upgrade import PATIENCE, Upgrader
from forkserve.supervision.views import view_of
from forkserve.supervision.watcher import Watcher
from forkserve.supervision.web import pause_web, resize_web
from forkserve.unix.notify import notify
from forkserve.wording import listed, signal_name

__all__ = ["Master"]


class Master:
    """Runs a supervisor from `run` until it is stopped, or has to give up."""

    def __init__(
        self,
        supervisor: Supervisor,
        loop: Loop,
        signals: SignalQueue,
        *,
        auxiliaries: AuxiliaryProcesses,
        source: ConfigSource,
    ) -> None:
        self.supervisor = supervisor
        self.loop = loop
        self.state = MasterState.RUNNING
        self.started_at = loop.now()
        self.exit_code = ExitCode.OK
        self._signals, self._auxiliaries = signals, auxiliaries
        self.keeps_logs_of = auxiliaries.keeps_logs_of
        self.reloader = Reloader(supervisor, source, loop)
        self.upgrader = Upgrader(loop, supervisor.emit)
        self.observatory = Observatory(supervisor, loop)
        self.is_booted = False
        """Whether everything that is to be started has once become ready, or was given up."""
        self._turns = JobTurns(loop)
        self._startup = Startup(supervisor, loop, self._booted)
        self._hanging_up: Completion | None = None
        self._is_new = True
        self._ended = Completion()
        self.ordered_stop = OrderedStop(supervisor, self._turns, loop, self._go_on_stopping)
        self.maintenance = Maintenance(supervisor, loop)
        supervisor.on_settled = self._settled
        self.reaper = Reaper(
            supervisor,
            loop,
            listeners=(auxiliaries.reaped, self.reloader.reaped, self.upgrader.reaped, self.observatory.reaped),
            then=self._go_on_stopping,
        )
        self.repairs = Repairs(supervisor, loop, self.reaper.reap)
        loop.on_bug = self.repairs.begin
        self.on_booted: Callable[[], None] = lambda: None
        """Called when everything that is to be started has become ready, or was given up, and something runs."""
        self._handlers = self._signal_handlers()

    def _signal_handlers(self) -> dict[int, Callable[[], object]]:
        """Return what each signal does, as `SIGNALS` says it."""
        return {
            signal.SIGTERM: self.quit,
            signal.SIGQUIT: self.quit,
            signal.SIGINT: self._interrupted,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self.reopen_logs,
            signal.SIGUSR2: lambda: self.state is MasterState.RUNNING and self.upgrade(),
            signal.SIGWINCH: lambda: self._web(pause_web),
            signal.SIGTTIN: lambda: self._web(partial(resize_web, change=+1)),
            signal.SIGTTOU: lambda: self._web(partial(resize_web, change=-1)),
        }

    def run(self) -> ExitCode:
        """Start what is to be started, and serve until everything is over; returns the exit code."""
        self.loop.watch(self._signals.fileno(), selectors.EVENT_READ, lambda _events: self._take_signals())
        if self._is_new:
            self._startup.begin()
            self.supervisor.settle()
        else:
            self.reloader.go_on()
            self.reaper.reap()  # SIGCHLD may have come before anybody listened
        self.loop.run()
        return self.exit_code

    def keep_running(self, attendant: Attendant) -> None:
        """Keep a process running beside this one until all watchers have stopped."""
        self._auxiliaries.keep_running(attendant)

    @property
    def can_tell_logs(self) -> bool:
        """True if there is a log writer that can be asked for the output of processes."""
        return self._auxiliaries.can_tell_logs

    def tell_logs(self, connection: int, facts: dict[str, Any]) -> None:
        """Let the log writer answer over a connection, which is closed here; see `logwriter.readers`."""
        self._auxiliaries.tell_logs(connection, facts)

    @property
    def companions(self) -> dict[int, str]:
        """The processes beside this one that belong to no watcher, by pid."""
        return self._auxiliaries.names

    def to_data(self, completions: CompletionWriter) -> dict[str, Any]:
        """Return its stage as plain data."""
        return {
            "state": self.state.value,
            "exit_code": int(self.exit_code),
            "started_at": self.started_at,
            "is_booted": self.is_booted,
            "observatory": self.observatory.to_data(),
            "startup": self._startup.to_data(completions),
            "hanging_up": completions.number(self._hanging_up) if self._hanging_up else None,
            **self.ordered_stop.to_data(),
            "ended": completions.number(self._ended),
            "maintenance": self.maintenance.to_data(completions),
        }

    def restore(self, data: Mapping[str, Any], completions: CompletionReader) -> None:
        """Go on from the stage of another one, with watchers that have been read already; `run` then starts nothing."""
        self._is_new, self.started_at = False, data["started_at"]
        self.state, self.exit_code = MasterState(data["state"]), ExitCode(data["exit_code"])
        self.ordered_stop.restore(data)
        self._ended = completions[data["ended"]]
        self.is_booted = data["is_booted"]
        self.observatory.restore(data["observatory"])
        self._startup.restore(data["startup"], completions)
        self.maintenance = Maintenance(self.supervisor, self.loop)
        self.maintenance.restore(data.get("maintenance", {}), completions)
        if data["hanging_up"] is not None:
            self._hang_up_with(completions[data["hanging_up"]])

    # What control asks.

    @property
    def name(self) -> str:
        """Its name, or an empty text."""
        return self.supervisor.config.master.name or ""

    @property
    def description(self) -> str:
        """What it runs."""
        return self.reloader.source.path or self.reloader.source.description

    def views(self) -> tuple[WatcherView, ...]:
        """Return a view of every watcher, in the order of the configuration."""
        now = self.loop.now()
        return tuple(view_of(each.watcher, now, progress_of(each, now)) for each in self.supervisor)

    def view(self, name: str) -> WatcherView:
        """Return a view of one watcher; raises ControlError for an unknown name."""
        queue, now = self.supervisor.queue(name), self.loop.now()
        return view_of(queue.watcher, now, progress_of(queue, now))

    # Verbs. `names` None means all watchers; an unknown one raises ControlError with nothing done.

    def start(self, names: Sequence[str] | None = None) -> Completion:
        """Start; done when the processes are ready."""
        return self._submit(names, Start(), "started")

    def stop(self, names: Sequence[str] | None = None) -> Completion:
        """Stop; done when nothing of it is left. The sockets stay open."""
        return self._submit(names, Stop(), "stopped")

    def restart(self, names: Sequence[str] | None = None) -> Completion:
        """Stop, then start."""
        return self._submit(names, Restart(), "restarted")

    def reload(self, name: str | None = None, job: Reload | None = None) -> Completion:
        """Replace the processes: one by one, or where two may not run at once, after stopping the old one."""
        self._refuse_when_stopping()
        job = job or Reload()
        if name is not None:
            named = self.supervisor.queues_named(name)
            if len(named) > 1:
                return self._turns.submit_all(named, job, "reloaded")
            return self._turns.submit(named[0], job)
        queues = [queue for group in self.supervisor.in_order() for queue in group]
        stopped = [queue.watcher.name for queue in queues if not queue.watcher.up]
        left_alone = f"; {listed(stopped)} stopped, left alone" if stopped else ""
        running = [queue for queue in queues if queue.watcher.up]
        return self._turns.submit_all(running, job, f"reloaded{left_alone}")

    def reload_config(self, *, processes: bool = False) -> Completion:
        """Read the configuration again and apply what differs."""
        self._refuse_when_stopping()
        return self.reloader.request(processes=processes)

    def change(self, wanted: ChangeRequest) -> Completion:
        """Change the current configuration."""
        self._refuse_when_stopping()
        return self.reloader.ask(wanted)

    def submit(self, name: str, job: Job) -> Completion:
        """Give one watcher a job."""
        self._refuse_when_stopping()
        return self._turns.submit(self.supervisor.queue(name), job)

    def hold(self, name: str, *, wid: int | None = None, wanted: bool) -> str:
        """Make workers accept nothing for now, or accept again; returns what was done."""
        self._refuse_when_stopping()
        return hold(self.supervisor.queue(name).watcher, wid=wid, wanted=wanted).text()

    def pause(self, name: str, *, seconds: float, then: str) -> str:
        """Make new connections wait for at most this long; returns what was done."""
        self._refuse_when_stopping()
        return self.maintenance.pause(name, seconds=seconds, then=then)

    def reopen_logs(self) -> None:
        """Reopen every log file: ours, those of captured output, and those of the workers that can."""
        logs.reopen()
        self._auxiliaries.reopen()
        for watcher in self.supervisor.watchers:
            watcher.signal(signal.SIGUSR1, only=lambda each: each.said_ready)
        self.supervisor.emit(LogsReopened())

    def upgrade(self, command: Sequence[str] = (), *, within: float = PATIENCE) -> Completion:
        """Replace this program by what `command` executes, see `Upgrader`; it has `within` seconds to get ready."""
        self._refuse_when_stopping()
        return self.upgrader.request(command, within=within)

    def make_ready_to_leave(self) -> None:
        """Submit waiting jobs, so that all requests are data."""
        self._turns.take_all()
        self.reloader.turns.take_all()

    def quit(self) -> Completion:
        """Stop everything in order, then end; done when nothing is left."""
        self._on(MasterTrigger.STOP)
        return self._ended

    def _submit(self, names: Sequence[str] | None, job: Job, result: str) -> Completion:
        self._refuse_when_stopping()
        if names is not None:
            named = [queue for name in names for queue in self.supervisor.queues_named(name)]
            completions = [self._turns.submit(queue, job) for queue in named]
            return completions[0] if len(completions) == 1 else all_of(completions, result)
        queues = [queue for group in self.supervisor.in_order() for queue in group if _is_meant(queue.watcher, job)]
        return self._turns.submit_all(queues, job, result)

    def _refuse_when_stopping(self) -> None:
        if self.state is not MasterState.RUNNING:
            raise ControlError("forkserve is stopping")

    # Events.

    def _take_signals(self) -> None:
        taken = self._signals.take()
        for signum in (each for each in taken if each != signal.SIGCHLD):
            with Barrier(self.supervisor.emit, signal_name(signum)):
                self._take_signal(signum)
        if signal.SIGCHLD in taken:
            self.reaper.reap()
        self.supervisor.settle()

    def _take_signal(self, signum: int) -> None:
        if signum == signal.SIGWINCH and has_terminal():
            self.supervisor.emit(SignalReceived(signal="SIGWINCH", meaning="ignored at a terminal, whose size changed"))
        elif signum in self._handlers:
            self.supervisor.emit(SignalReceived(signal=signal_name(signum), meaning=SIGNALS[signum]))
            self._handlers[signum]()

    def _settled(self) -> None:
        self.reloader.advance()
        self._go_on_stopping()
        if self.state is not MasterState.RUNNING:
            return
        hopeless = () if self._startup.waiting else self.supervisor.hopeless
        if hopeless:
            self.supervisor.emit(GaveUp(reasons=tuple(each.population.failures.last for each in hopeless)))
            codes = {each.population.failures.outlook.code for each in hopeless}
            self.exit_code = ExitCode(codes.pop() or ExitCode.GAVE_UP) if len(codes) == 1 else ExitCode.GAVE_UP
            self._on(MasterTrigger.STOP)

    def _booted(self) -> None:
        if self.state is MasterState.RUNNING and not self.supervisor.hopeless:
            self.is_booted = True
            notify("READY=1")
            self.on_booted()

    def _interrupted(self) -> None:
        self._on(MasterTrigger.STOP if self.state is MasterState.RUNNING else MasterTrigger.TERMINATE)

    def _hang_up(self) -> None:
        if self.state is not MasterState.RUNNING:
            return
        notify(f"RELOADING=1\nMONOTONIC_USEC={int(self.loop.now() * 1e6)}")
        self._hang_up_with(self.reloader.request())

    def _hang_up_with(self, reload: Completion) -> None:
        self._hanging_up = reload
        reload.when_done(self._reloaded)

    def _reloaded(self, reload: Completion) -> None:
        self._hanging_up = None if reload is self._hanging_up else self._hanging_up
        if self.reloader.is_busy or self.state is not MasterState.RUNNING:
            return
        notify("READY=1")
        for queue in self.supervisor:
            if queue.watcher.paused and queue.watcher.resumes:
                queue.submit(Start())

    def _web(self, act: Callable[[Supervisor], None]) -> None:
        if self.state is MasterState.RUNNING:
            act(self.supervisor)

    # The end.

    def _on(self, event: MasterTrigger) -> None:
        self.state, effects = step(MASTER, self.state, event)
        for effect in effects:
            if effect is Effect.STOP_ALL:
                self._call_off()
                self.ordered_stop.begin()
                self._go_on_stopping()
            elif effect is Effect.HURRY:
                self.ordered_stop.hurry()
            elif effect is Effect.KILL_ALL:
                self.exit_code = self.exit_code or ExitCode.FAILURE
                self.ordered_stop.kill()
                self._go_on_stopping()
            elif effect is Effect.CLOSE:
                self.loop.call_later(0.0, self.loop.stop)
                self.supervisor.emit(MasterStopped())
                self._ended.succeed("forkserve has stopped")

    def _call_off(self) -> None:
        """Drop what is under way, since everything stops; a bug in one of these must not keep it from stopping."""
        underway: tuple[Callable[[], object], ...] = (
            lambda: notify("STOPPING=1"),
            self._startup.cancel,
            lambda: self.upgrader.cancel("forkserve is stopping"),
            self._turns.clear,
            self._auxiliaries.farewell,
            self.reloader.cancel,
            self.observatory.close,
        )
        for call_off in underway:
            with Barrier(self.supervisor.emit, "what was under way at the stop"):
                call_off()

    def _go_on_stopping(self) -> None:
        if self.state not in (MasterState.STOPPING, MasterState.TERMINATING):
            return
        quick = self.state is MasterState.TERMINATING
        if self.ordered_stop.is_over(spared=self._auxiliaries.known_pids, quick=quick):
            self._auxiliaries.close()
            if not self._auxiliaries.pids:
                self._on(MasterTrigger.CHILDLESS)


def _is_meant(watcher: Watcher, job: Job) -> bool:
    """Tell whether a verb for all applies to this watcher: one that does not start with the others stays stopped."""
    return watcher.options.autostart or watcher.up or isinstance(job, Stop)
