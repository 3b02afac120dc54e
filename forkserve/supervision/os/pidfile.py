"""A file that names the master's pid, as init scripts want it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from forkserve.errors import ConfigError, ExitCode

__all__ = ["PidFile"]


class PidFile:
    """Written whole at construction, removed by `close` if it is still ours.

    Raises ConfigError when the pid in it is alive, or when it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._refuse_living()
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            temporary.write_text(f"{os.getpid()}\n")
            temporary.replace(self._path)  # rename(2): a reader sees the old file or the new, never half a number
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            failure = ConfigError(
                f"pidfile {path}: cannot write it: {error.strerror}; name a file in a folder that can be written, "
                "such as /run, or leave the option out"
            )
            failure.exit_code = ExitCode.NO_PERMISSION if isinstance(error, PermissionError) else ExitCode.CANNOT_BIND
            raise failure from None

    def _read(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self._path.read_text())
        return None

    def _refuse_living(self) -> None:
        pid = self._read()
        # In a container that was started anew, the last master had our own pid.
        if pid is not None and pid > 0 and pid != os.getpid() and _is_alive(pid):
            failure = ConfigError(
                f"pidfile {self._path}: process {pid} is alive; stop it, name another file, "
                "or remove the file if that process is no forkserve"
            )
            failure.exit_code = ExitCode.CANNOT_BIND
            raise failure

    def close(self) -> None:
        """Remove the file, unless another process has put its own there."""
        if self._read() == os.getpid():
            with contextlib.suppress(OSError):  # read-only by now: nothing is left to do
                self._path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's; no pid at all
        return pid < 2**31
    return True
