"""The two ends of an upgrade: the old code leaves with its state, the new code takes over, or returns to the old one.

Theory of operation. `leave` blocks all signals, serialises the state, and executes the new code with it. That reads the
state, which changes nothing, and goes on. If it cannot, in spite of the rehearsal, it executes the old code with the
same state, which reports this and goes on instead. Signals wait meanwhile; exits are reaped afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import traceback
from collections.abc import Sequence
from typing import NoReturn

from forkserve import logs
from forkserve.bootstrap.assembly import Assembly, program, show_title
from forkserve.bootstrap.statefile import Data, decode, encode, read, written
from forkserve.bootstrap.statepublisher import StatePublisher
from forkserve.config.handover import FAILED, TAKE_OVER
from forkserve.errors import ControlError, ForkserveError, UsageError
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import Upgraded, UpgradeFailed
from forkserve.supervision.os.reexec import become, block_all, read_sealed, sealed
from forkserve.supervision.os.signals import SIGNALS, SignalQueue
from forkserve.supervision.upgrade import can_take_over
from forkserve.unix.descriptors import descriptors_in, renumbered
from forkserve.unix.notify import notify

__all__ = ["make_replaceable", "rehearse", "take_over"]


def make_replaceable(assembly: Assembly) -> None:
    """Let the master's upgrader serialise its state, and leave."""
    upgrader, supervisor = assembly.master.upgrader, assembly.master.supervisor
    # What it takes to start a worker that waits for its zygote is no data, so the new code would cancel it.
    upgrader.may_leave = lambda: not any(each.population.zygotes.has_waiting for each in supervisor.watchers)
    upgrader.write = lambda: _as_it_is(assembly)
    upgrader.leave = lambda command, completion: _leave(assembly, command, completion)


# The old code.


def _as_it_is(assembly: Assembly) -> bytes:
    assembly.master.make_ready_to_leave()
    return encode(written(assembly))


def _leave(assembly: Assembly, command: Sequence[str], completion: Completion) -> NoReturn:
    """Execute new code in the place of this one; raises OSError with everything as it was."""
    base, reloader = assembly.base, assembly.master.reloader
    mask = block_all()
    notify(f"RELOADING=1\nMONOTONIC_USEC={int(base.loop.now() * 1e6)}")
    taken = base.signals.take()
    assembly.master.make_ready_to_leave()
    reloader.reading.stop()
    state = -1
    try:
        data = written(assembly, completion)
        before = {"mask": sorted(mask), "signals": taken, "before": data["command"], "command": list(command)}
        state = sealed(encode({**data, **before}))
        become((*command, TAKE_OVER, str(state)), os.environ, {state, *descriptors_in(data)})
    finally:
        if state >= 0:
            os.close(state)
        base.signals.put(taken)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        reloader.go_on()
        notify("READY=1")


# The new code.


def rehearse(fd: int) -> str:
    """Read a state and the configuration as `take_over` would, without its descriptors; returns the line to print.

    Raises ForkserveError with what is wrong.
    """
    data = decode(_content(fd))
    assembly, _completion = read(renumbered(data, {}), SignalQueue(()))
    assembly.base.source.read()
    return can_take_over(program())


def take_over(fd: int, failed: str = "") -> int:
    """Take over from another master that was executed as this process; returns the exit code.

    `failed` is why newer code has given up, and returned to this one.
    """
    data = decode(_content(fd))
    data["command"] = data["before"] if failed else data["command"]
    try:
        assembly, completion = _restored(data)
    except BaseException as error:
        _have_the_old_code_back(data, fd, error, again=bool(failed))
        raise
    os.close(fd)
    with contextlib.ExitStack() as stack:
        _close_at_the_end(assembly, stack)
        assembly.base.signals.put(data["signals"])
        signal.pthread_sigmask(signal.SIG_SETMASK, set(data["mask"]))
        make_replaceable(assembly)
        StatePublisher(assembly)
        assembly.base.pool.update_store()
        _tell(assembly, completion, data["program"], failed)
        return assembly.run()


def _content(fd: int) -> bytes:
    try:
        return read_sealed(fd)
    except (ValueError, OSError) as error:
        raise ForkserveError(f"{error}; forkserve is upgraded by `forkservectl upgrade`") from None


def _restored(data: Data) -> tuple[Assembly, Completion]:
    options = data["supervisor"]["config"]["master"]
    _log_to(options)
    for fd in descriptors_in(data):
        os.set_inheritable(fd, False)
    signals = SignalQueue(SIGNALS, blocked=True)
    assembly, completion = read(data, signals)
    if assembly.log_program is not None:
        assembly.log_program.go_on(options["loglevel"])
    show_title(options["name"], assembly.base.source)
    return assembly, completion


def _log_to(options: Data) -> None:
    """Log where the master logged; to standard error if that is no longer possible, which is no reason to end."""
    level, size, backups = options["loglevel"], options.get("log_max_bytes", 0), options.get("log_backups", 0)
    try:
        logs.set_up(level, options["logoutput"], patience=0.0, max_bytes=size, backups=backups)
    except UsageError as error:
        logs.set_up(level, "-", patience=0.0)
        logging.getLogger("forkserve.master").error("%s; the log goes to standard error", error)


def _have_the_old_code_back(data: Data, fd: int, error: BaseException, *, again: bool) -> None:
    """Execute the former code; returns if that is impossible."""
    if again or not data.get("before"):
        return
    reason = str(error) if isinstance(error, ForkserveError) else traceback.format_exception_only(error)[-1].strip()
    with contextlib.suppress(OSError):
        command = (*data["before"], TAKE_OVER, str(fd), FAILED, reason or type(error).__name__)
        become(command, os.environ, {fd, *descriptors_in(data)})


def _close_at_the_end(assembly: Assembly, stack: contextlib.ExitStack) -> None:
    """Close everything in reverse; the sockets last, as after a first start."""
    base = assembly.base
    stack.callback(base.signals.close)
    stack.callback(base.pool.close)
    if base.background is not None:
        stack.callback(base.background.failed)
    if base.pidfile is not None:
        stack.callback(base.pidfile.close)
    stack.callback(base.loop.close)
    stack.callback(base.reports.close)
    stack.callback(base.auxiliaries.close)
    stack.callback(assembly.status.close)
    stack.callback(assembly.close_log)
    if assembly.control is not None:
        stack.callback(assembly.control.close)


def _tell(assembly: Assembly, completion: Completion, before: str, failed: str) -> None:
    if assembly.master.is_booted:
        notify("READY=1")
    if failed:
        event = UpgradeFailed(reason=failed)
        assembly.base.bus.emit(event)
        completion.fail(ControlError(event.text()))
        return
    processes = len(assembly.master.supervisor.processes())
    done = Upgraded(program=program(), before=before, processes=processes)
    assembly.base.bus.emit(done)
    completion.succeed(done.text())
