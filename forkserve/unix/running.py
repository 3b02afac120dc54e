"""Whether a process wants the processor, and how much of it it has had: /proc/PID/stat and schedstat (proc(5)).

Linux only; a kernel without CONFIG_SCHED_INFO, or a /proc that hides others, is the same as a process that sleeps.
"""

from __future__ import annotations

__all__ = ["processor_time"]


def processor_time(pid: int) -> float | None:
    """Return the seconds that the main thread has run, if it runs or waits for a processor; None if it does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b") ")[2][:1]
        if state != b"R":
            return None
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None
