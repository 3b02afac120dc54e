"""Which cores serve and which send load.

Never the same one, and no two threads of one physical core, if it can be had.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Pins", "divide", "here"]


@dataclass(frozen=True, slots=True)
class Pins:
    """The cores of each side. `shared` says that there was only one, so that the two disturb each other."""

    server: tuple[int, ...]
    client: tuple[int, ...]
    shared: bool = False

    def server_prefix(self, workers: int = 1) -> list[str]:
        """Return the command prefix that pins a server with that many busy processes."""
        return ["taskset", "-c", _text(self.server[: max(1, workers)])]

    def client_prefix(self) -> list[str]:
        """Return the command prefix that pins a load generator."""
        return ["taskset", "-c", _text(self.client)]

    def describe(self) -> str:
        """Say it in one line."""
        note = " (the only core: both sides disturb each other)" if self.shared else ""
        return f"servers on core {_text(self.server)}, load from core {_text(self.client)}{note}"


def _text(cores: Sequence[int]) -> str:
    return ",".join(map(str, cores))


def divide(cores: Sequence[int], siblings: Mapping[int, int]) -> Pins:
    """Give the client a quarter of the physical cores (at least one), the servers the rest, hyperthreads left idle.

    `siblings` maps a core to the number of its physical core.
    """
    physical = list({siblings.get(core, core): core for core in reversed(cores)}.values())[::-1]
    usable = physical if len(physical) > 1 else list(cores)
    if len(usable) == 1:
        return Pins(tuple(usable), tuple(usable), shared=True)
    clients = max(1, len(usable) // 4)
    return Pins(tuple(usable[:-clients]), tuple(usable[-clients:]))


def here() -> Pins:
    """Divide the cores that this process may use."""
    cores = sorted(os.sched_getaffinity(0))
    siblings = {}
    for core in cores:
        try:
            text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
        except OSError:
            continue
        siblings[core] = int(text.replace("-", ",").split(",")[0])
    return divide(cores, siblings)
