"""A terminal with a program at it: its keys, its size, and what it shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from pathlib import Path
from typing import Self

from tests.support.forkserving import eventually

__all__ = ["Terminal"]


class Terminal:
    """A terminal of a size, and a program that has it as its own."""

    def __init__(self, argv: list[str], *, rows: int, columns: int, **env: str) -> None:
        self._reader, terminal = pty.openpty()
        self.resize(rows, columns)
        variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", **env}
        self.process = subprocess.Popen(
            argv,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=variables,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # whose keys send signals
        )
        os.close(terminal)
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """End what a failed test has left: it would be a child of all later ones."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._reader, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._reader, keys)

    def until(self, text: bytes) -> None:
        """Read until a text has come since the last one."""
        while text not in self.seen:
            assert select.select([self._reader], [], [], 20)[0], self.seen
            self.seen += os.read(self._reader, 65536)
        self.seen = self.seen.partition(text)[2]

    def interrupt(self) -> None:
        """Press Ctrl-C once the program waits for keys: CPython's input() sees no signal that comes between its
        prompt and its select(2), until the next key.
        """
        stat = Path(f"/proc/{self.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
        self.press(b"\x03")

    def end(self) -> int:
        """Read the rest, and return the exit code."""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
            while piece := os.read(self._reader, 65536):
                self.seen += piece
        os.close(self._reader)
        return self.process.wait(20)
