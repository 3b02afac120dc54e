"""What a process uses, asked of the kernel when somebody wants to know, and never otherwise.

psutil is imported at the first question, so that a master of whom nobody asks anything stays small.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["Meter", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in percent of one core, `memory` is the resident set in bytes, `children` are direct ones."""

    cpu: float
    memory: int
    threads: int
    fds: int
    children: int


class Meter:
    """Measures processes; CPU is that since the last question, and at the first one since the process began."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def measure(self, pid: int) -> Usage | None:
        """Return what one process uses now; None when it has gone, or is not ours to look at."""
        import psutil

        try:
            process = self._known.get(pid)
            if process is None or not process.is_running():
                process = psutil.Process(pid)
                process.cpu_percent()  # remembers now as the start of the next span
                times, age = process.cpu_times(), max(time.time() - process.create_time(), 0.01)
                cpu = (times.user + times.system) / age * 100
                self._known[pid] = process
            else:
                cpu = process.cpu_percent()
            with process.oneshot():
                memory, threads, fds = process.memory_info().rss, process.num_threads(), process.num_fds()
            return Usage(round(cpu, 1), memory, threads, fds, len(process.children()))
        except psutil.Error:
            self._known.pop(pid, None)
            return None

    def forget_all_but(self, pids: Iterable[int]) -> None:
        """Drop what is remembered of processes that have ended."""
        alive = set(pids)
        self._known = {pid: process for pid, process in self._known.items() if pid in alive}
