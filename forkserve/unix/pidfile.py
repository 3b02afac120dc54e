"""A file that names the master's pid, as init scripts want it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from forkserve.errors import BindError

__all__ = ["PidFile"]


class PidFile:
    """Written whole at construction, removed by `close` if it is still ours.

    Raises BindError when the pid in it is alive, or when it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._refuse_living()
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            temporary.write_text(f"{os.getpid()}\n")
            temporary.replace(self._path)  # rename(2): a reader sees the old file or the new, never half a number
        except OSError as error:
            raise BindError(f"pidfile {path}: {error.strerror}") from None

    def _refuse_living(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._path.read_text())
            if pid != os.getpid():
                os.kill(pid, 0)
                raise BindError(f"pidfile {self._path}: process {pid} is alive; stop it, or name another file")

    def close(self) -> None:
        """Remove the file, unless another process has put its own there."""
        with contextlib.suppress(OSError, ValueError):
            if int(self._path.read_text()) == os.getpid():
                self._path.unlink()
