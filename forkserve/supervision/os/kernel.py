"""What supervision needs from the kernel about processes: start one, read how that went, send a signal.

Rules: thin, and the only place that a test of supervision replaces. A pid passed here must not have been reaped.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from forkserve.config.cgroups import spare_memory
from forkserve.supervision.os.memory import proportional_size
from forkserve.supervision.os.proc import members_of
from forkserve.supervision.os.spawn import Spawned, SpawnFolder, SpawnRefusal, SpawnSpec, fork, outcome

__all__ = ["Kernel"]


class Kernel:
    """Processes as numbers.

    `adopted` are those that count as children and are none, with a pidfd for each, `bereft` the groups that ended ones
    of them may have left. Their zombies are not ours to reap, and do not count.
    """

    def __init__(self) -> None:
        self.adopted: dict[int, int] = {}
        self.bereft: set[int] = set()
        self._folders: dict[int, str] = {}

    def fork(self, spec: SpawnSpec, *, rehearse: bool = False) -> Spawned:
        """Start a program, or only try whether it could be started; raises SpawnError."""
        return fork(spec, rehearse=rehearse)

    def outcome(self, report: int) -> SpawnRefusal | bool:
        """Read the report of a start: True if the program runs, False while that is open, or the reason why not."""
        while isinstance(found := outcome(report), SpawnFolder):
            self._folders[report] = found.path
        return found

    def folder_of(self, report: int) -> str:
        """Return the working directory from the report of a start, or an empty text."""
        return self._folders.get(report, "")

    def close(self, report: int) -> None:
        """Close the report of a start."""
        self._folders.pop(report, None)
        os.close(report)

    def is_of(self, pid: int, variable: str) -> bool:
        """Tell whether a process was started with this variable in its environment (proc_pid_environ(5))."""
        with contextlib.suppress(OSError):
            return os.fsencode(variable) in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def is_child(self, pid: int) -> bool:
        """Tell whether a pid is a child of ours that has not been reaped."""
        if pid in self.adopted:
            return True
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def pss_of(self, pid: int) -> int | None:
        """Return the bytes of memory of a process, with its share of common pages (PSS); None if unknown."""
        return proportional_size(pid)

    def spare_memory(self) -> float:
        """Return the share of memory that is free, 0 to 1, in the machine or in the control group."""
        return spare_memory()

    def signal(self, pid: int, signum: int) -> None:
        """Send a signal to a child; that it has ended, or now belongs to another user, is no error."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid in self.adopted:
                signal.pidfd_send_signal(self.adopted[pid], signum)
            else:
                os.kill(pid, signum)

    def signal_group(self, pgid: int, signum: int) -> bool:
        """Send a signal to a process group, 0 only to ask; False if there is no such group any more."""
        if pgid in self.bereft and not members_of({pgid}):
            self.bereft.discard(pgid)
            return False
        try:
            os.killpg(pgid, signum)
        except ProcessLookupError:
            return False
        except PermissionError:  # it lives, under another user
            return True
        return True
