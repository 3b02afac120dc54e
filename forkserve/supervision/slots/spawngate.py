"""Hooks before and after a process of a slot: before_spawn, after_spawn, before_reap and after_reap.

Rules: a slot that waits for before_spawn is marked (`asking`). A veto at a start stops the watcher, as in Circus; if
another process already serves, it counts as a failed start.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from functools import partial

from forkserve.supervision.hooks.gate import HookGate
from forkserve.supervision.os.spawn import SpawnError, SpawnStage
from forkserve.supervision.process import Process
from forkserve.supervision.slot import Slot

__all__ = ["SpawnGate"]


class SpawnGate:
    """Guards the slots: `start` starts a process for one, `refuse` notes that it could not be."""

    def __init__(
        self,
        gate: HookGate,
        slots: Mapping[int, Slot],
        start: Callable[[Slot], Process | None],
        refuse: Callable[[Slot, SpawnError], None],
        changed: Callable[[], None],
    ) -> None:
        self._gate = gate
        self._slots = slots
        self._start = start
        self._refuse = refuse
        self._changed = changed

    def spawn(self, slot: Slot, *, beside: bool = False) -> None:
        """Request the occupant of a slot, or its candidate, once the hooks allow it."""
        slot.asking_beside = beside
        if slot.asking:  # what it is to be has changed while that was being asked
            return
        if "before_spawn" in self._gate.hooks:
            slot.asking = True
            self._gate.ask("before_spawn", partial(self._allowed, slot))
        else:
            self._fill(slot)

    def ask_again(self) -> None:
        """Ask the hooks again what another program has asked them without getting an answer."""
        for slot in tuple(self._slots.values()):
            if slot.asking:
                slot.asking = False
                self.spawn(slot, beside=slot.asking_beside)

    def _allowed(self, slot: Slot, consented: bool) -> None:
        if self._slots.get(slot.wid) is not slot or not slot.asking:
            return
        if not consented and not slot.asking_beside:
            self._gate.refuse_spawn("before_spawn")
            return
        slot.asking = False
        if consented:
            self._fill(slot)
        else:
            slot.asking_beside = False
            self._refuse(slot, SpawnError(errno.EPERM, SpawnStage.PREPARE, "hooks.before_spawn said no"))
        self._changed()

    def _fill(self, slot: Slot) -> None:
        beside, slot.asking_beside = slot.asking_beside, False
        if beside:
            slot.candidate = self._start(slot)
        else:
            slot.seat(self._start(slot))

    def tell_started(self, process: Process) -> None:
        """Ask whether a process whose program runs may stay."""
        if not process.is_zygote:
            self._gate.ask("after_spawn", self._may_stay, pid=process.pid)

    def _may_stay(self, consented: bool) -> None:
        if not consented:
            self._gate.refuse_spawn("after_spawn")

    def tell_reaped(self, process: Process) -> None:
        """Call the hooks before and after a reaping, as in Circus."""
        if process.is_zygote or not process.pid or process.exit is None or not self._gate.is_concerned:
            return
        code = process.exit.code if process.exit.signum is None else -process.exit.signum
        now = time.time()
        self._gate.ask("before_reap", process_pid=process.pid, time=now)
        self._gate.ask("after_reap", process_pid=process.pid, time=now, exit_code=code, process_status=None)
