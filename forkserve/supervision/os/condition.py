"""What the kernel says about a process that seems to hang: stopped, traced, starved of a processor (proc(5))."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProcessCondition", "condition_of"]


@dataclass(frozen=True, slots=True)
class ProcessCondition:
    """One process at one instant: the seconds for which its main thread `ran`, and `waited` for a processor.

    `is_held` is true while it is stopped (SIGSTOP), or traced (ptrace(2)). `caught` is the mask of the signals that it
    has a handler for.
    """

    is_held: bool = False
    ran: float = 0.0
    waited: float = 0.0
    caught: int = 0

    def catches(self, signum: int) -> bool:
        """Tell whether a signal would be handled, and not end it."""
        return bool(self.caught >> (signum - 1) & 1)


def condition_of(pid: int) -> ProcessCondition | None:
    """Return the condition of a process, None if it has ended; without schedstat none is starved."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        state, tracer, caught = fields[b"State"].split()[0], int(fields[b"TracerPid"]), int(fields[b"SigCgt"], 16)
    except (OSError, ValueError, KeyError, IndexError):
        return None
    ran = waited = 0.0
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            ran, waited = (int(word) / 1e9 for word in file.read().split()[:2])
    except (OSError, ValueError):
        pass
    return ProcessCondition(is_held=state in (b"T", b"t") or tracer != 0, ran=ran, waited=waited, caught=caught)
