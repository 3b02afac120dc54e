"""The log of the master as `loggerconfig` describes it, written by a program that has configured `logging` with it.

Theory of operation. The handlers of such a file may be of any class, and wait for disks and networks, so none of them
is in the master, which writes records to a pipe and drops those that find no room. The master keeps both ends: when the
program dies another one reads on. It outlives everything else, and ends with the pipe, which the master closes last.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from forkserve import logs
from forkserve.supervision.auxiliaries.auxiliaries import AuxiliaryProcesses
from forkserve.supervision.auxiliaries.sidecar import Sidecar
from forkserve.supervision.events import Event
from forkserve.supervision.os.loop import Loop
from forkserve.unix.descriptors import descriptor, number_of

__all__ = ["LogProgram"]

NAME = "log program"
PATIENCE = 3.0
"""Seconds within which it must have written the last lines."""


class LogProgram:
    """The program, and the pipe to it."""

    def __init__(self, sidecar: Sidecar, reading: int, writing: int) -> None:
        self.sidecar = sidecar
        self._reading = reading
        self._writing = writing

    @classmethod
    def begin(
        cls, path: str, level: str, loop: Loop, emit: Callable[[Event], None], auxiliaries: AuxiliaryProcesses
    ) -> LogProgram:
        """Start it, and send our lines there from now on; raises OSError."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        argv = (sys.executable, "-P", "-m", "forkserve.sidecars.logger", "--config", os.path.abspath(path))
        sidecar = Sidecar(NAME, argv, loop, emit, stdin=reading)
        program = cls(sidecar, reading, writing)
        auxiliaries.keep_running(sidecar)
        logs.send_records(level, writing)
        return program

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data; it outlives an exec of the master."""
        return {
            "sidecar": self.sidecar.to_data(),
            "reading": descriptor(self._reading),
            "writing": descriptor(self._writing),
        }

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], loop: Loop, emit: Callable[[Event], None], auxiliaries: AuxiliaryProcesses
    ) -> LogProgram:
        """Return one that goes on with the same program; our lines go there when `go_on` is called."""
        reading, writing = number_of(data["reading"]), number_of(data["writing"])
        sidecar = Sidecar.from_data(data["sidecar"], loop, emit, stdin=reading)
        auxiliaries.look_after(sidecar)
        return cls(sidecar, reading, writing)

    def go_on(self, level: str) -> None:
        """Send our lines there."""
        logs.send_records(level, self._writing)

    def close(self, level: str) -> None:
        """Let it write what is left, and wait for its end; later lines go to standard error."""
        logs.set_up(level, "-", patience=0.0)
        for fd in (self._writing, self._reading):
            os.close(fd)
        pid = self.sidecar.pid
        if pid is None:
            return
        with contextlib.suppress(OSError):
            end = os.pidfd_open(pid)
            try:
                if not select.select([end], (), (), PATIENCE)[0]:
                    os.kill(pid, signal.SIGKILL)
            finally:
                os.close(end)
            os.waitpid(pid, 0)
