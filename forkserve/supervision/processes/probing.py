"""The readiness probes of one watcher (`ready`): each in a helper, one at a time for a process.

Theory of operation. A process that is probed has an instant of the next probe (`probe_at`), which is data. When it
arrives, a helper is forked that asks and answers (`os.probe`), so the master never waits. The pause between two probes
grows.

Rules: the owner decides what success means. The reason of the last failure is kept in `probe_reason`.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial

from forkserve.config.probes import ProbeKind, probe
from forkserve.supervision.barrier import Barrier
from forkserve.supervision.os.forkedcall import ForkedCall, call_in_fork
from forkserve.supervision.os.probe import TIMEOUT, ask
from forkserve.supervision.process import Process
from forkserve.supervision.spawning.start import SpawnServices

__all__ = ["Prober"]

FIRST, LONGEST = 0.1, 1.0
"""Seconds between the first two probes, and at most."""


class Prober:
    """The probes in progress; `on_ready` is called with a process that has answered, `changed` when one has not."""

    def __init__(
        self, services: SpawnServices, on_ready: Callable[[Process], None], changed: Callable[[], None]
    ) -> None:
        self._services = services
        self._on_ready = on_ready
        self._changed = changed
        self._asked: dict[int, ForkedCall[str]] = {}

    def begin(self, process: Process, text: str) -> str:
        """Start to probe a process that begins to run; returns what is wrong with the probe, or ""."""
        try:
            wanted = probe(text)
        except ValueError as error:
            return str(error)
        process.probe = text
        process.probe_at = self._services.loop.now() + (wanted.seconds if wanted.kind is ProbeKind.PAUSE else 0.0)
        return ""

    def due(self, process: Process) -> None:
        """Probe a process that is due."""
        process.probe_at = None
        if process.is_ready or process.is_asked_to_end or process.number in self._asked or not process.is_alive:
            return
        wanted = probe(process.probe)
        if wanted.kind is ProbeKind.PAUSE:
            self._on_ready(process)
            return
        try:
            self._asked[process.number] = call_in_fork(
                self._services.loop,
                partial(ask, wanted, process.pid),
                partial(self._answered, process),
                title=f"forkserve: probe of {process.watcher}[{process.wid}]",
                timeout=TIMEOUT,
            )
        except OSError as error:
            self._again(process, f"no helper can be forked: {error.strerror}")

    def _answered(self, process: Process, answer: str | Exception) -> None:
        with Barrier(self._services.emit, f"the probe of {process}"):
            self._asked.pop(process.number, None)
            if process.is_ready or process.is_asked_to_end or not process.is_alive:
                return
            if answer == "":
                self._on_ready(process)
            else:
                self._again(process, f"{process.probe} {answer}" if isinstance(answer, Exception) else answer)

    def _again(self, process: Process, reason: str) -> None:
        process.probe_reason = reason
        process.probe_pause = min(LONGEST, max(FIRST, process.probe_pause * 1.5))
        process.probe_at = self._services.loop.now() + process.probe_pause
        self._changed()

    def has_any(self, pids: Set[int]) -> bool:
        """Tell whether one of the pids is that of a helper."""
        return any(each.pid in pids for each in self._asked.values())

    def reaped(self, pid: int) -> None:
        """Note that a pid has been reaped; it may be a helper's."""
        for each in self._asked.values():
            each.reaped(pid)

    def forget(self, process: Process) -> None:
        """Stop probing a process that has ended."""
        process.probe_at = None
        call = self._asked.pop(process.number, None)
        if call is not None:
            call.cancel()
