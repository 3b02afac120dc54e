"""A file with the master's pid, as init scripts want it.

A mistyped name may be that of any file, so a file that holds no pid is neither overwritten nor removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from forkserve.errors import ConfigError, ExitCode

__all__ = ["PidFile"]

_LONGEST = 32
"""Most bytes of a pid and the space around it."""
_PID = re.compile(rb"\s*([1-9]\d{0,9})\s*")
_HIGHEST = 2**31 - 1


class PidFile:
    """Written whole at construction, removed by `close` if it is still ours.

    Raises ConfigError if the pid in it is alive, if it holds something else, or if it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._refuse_living(path)
        temporary = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}")
        try:
            # In a folder that others can write to, nothing that is there already is gone through.
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "w") as file:
                file.write(f"{os.getpid()}\n")
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

    @classmethod
    def of_this_process(cls, path: str) -> PidFile:
        """Return the file that an earlier program in this process has written."""
        file = cls.__new__(cls)
        file._path = Path(path)
        return file

    @property
    def path(self) -> str:
        """Its absolute path."""
        return str(self._path)

    def _refuse_living(self, path: str) -> None:
        try:
            content = _content(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return  # what is wrong with the folder is said when it is written to
        except OSError as error:
            raise ConfigError(f"pidfile {path}: cannot read it: {error.strerror}; name another file") from None
        if content is None:
            raise ConfigError(f"pidfile {path}: it is not a regular file; name another, or remove it")
        pid = _pid_in(content)
        if pid is None and content:
            raise ConfigError(
                f"pidfile {path}: it does not hold a pid, and is left alone; name another file, "
                "or remove it if it is not needed"
            )
        # In a container that was restarted, the last master had our own pid.
        if pid is not None and pid != os.getpid() and _is_alive(pid):
            failure = ConfigError(
                f"pidfile {self._path}: process {pid} is alive; stop it, name another file, "
                "or remove the file if that process is no forkserve"
            )
            failure.exit_code = ExitCode.CANNOT_BIND
            raise failure

    def close(self) -> None:
        """Remove the file, unless another process has put its own there."""
        with contextlib.suppress(OSError):  # gone, or read-only by now: nothing is left to do
            if _pid_in(_content(self._path)) == os.getpid():
                self._path.unlink()


def _content(path: Path) -> bytes | None:
    """Return the beginning of a file, or None if it is not a regular one, links included; raises OSError."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return None
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, _LONGEST + 1)
    finally:
        os.close(fd)


def _pid_in(content: bytes | None) -> int | None:
    found = _PID.fullmatch(content or b"")
    return int(found[1]) if found is not None and int(found[1]) <= _HIGHEST else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
