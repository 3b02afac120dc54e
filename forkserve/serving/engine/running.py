"""Whether a process wants the processor, and how much it has had: /proc/PID/task/*/stat and schedstat (proc(5)).

Linux only. Without CONFIG_SCHED_INFO, or with a /proc that hides others, every process seems to sleep.
"""

from __future__ import annotations

import os

__all__ = ["processor_time"]

_THREADS = 256
"""Most threads that are examined: the pid comes from memory that others write, and may be that of any process."""


def processor_time(pid: int) -> float | None:
    """Return the seconds that its threads have run, if one of them runs or waits for a processor; None if all sleep."""
    wants, used = False, 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task")[:_THREADS]:
            with open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                wants = wants or file.read().rpartition(b") ")[2][:1] == b"R"
            with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
                used += int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return used / 1e9 if wants else None
