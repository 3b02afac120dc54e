"""Files that lines are appended to, rotated by size or by time, or by somebody else.

Rules: every call may block as long as the disk does, so all of it runs in a thread of the writer process, never in the
master. A failure is an OSError; the file is opened anew at the next try, so a disk that was mended is used again.
"""

from __future__ import annotations

import contextlib
import os
import time

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logwriter.rotation import next_rotation, rotated_name, surplus
from forkserve.unix.links import open_appending

__all__ = ["LogFile", "SizedLogFile", "TimedLogFile", "WatchedLogFile", "log_file"]


class LogFile:
    """A file, made if it does not exist, always appended to."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._fd: int | None = None

    def write(self, data: bytes) -> int:
        """Append, and return how many bytes went out; raises OSError."""
        if self._fd is None:
            self._fd = open_appending(self.path)
            self._opened(self._fd)
        return os.write(self._fd, data)

    def _opened(self, fd: int) -> None:
        """Note what the new file is like."""

    def reopen(self) -> None:
        """Let the next write open the path anew, as logrotate expects."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # close(2) may tell of an earlier write; the descriptor is gone anyway
                os.close(fd)

    close = reopen


class SizedLogFile(LogFile):
    """Rotated to PATH.1, PATH.2 ... before it would grow past `max_bytes`."""

    def __init__(self, path: str, max_bytes: int, backup_count: int) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes
        self._backup_count = backup_count
        self._size = 0

    def _opened(self, fd: int) -> None:
        self._size = os.fstat(fd).st_size

    def write(self, data: bytes) -> int:
        """Append as much as fits by whole lines, and return how many bytes went out; raises OSError."""
        if self._fd is None:
            super().write(b"")
        if self._size and self._size + data.find(b"\n") + 1 > self._max_bytes:
            self._rotate()
        room = self._max_bytes - self._size
        if len(data) > room:
            data = data[: max(data.rfind(b"\n", 0, room), data.find(b"\n")) + 1 or len(data)]
        written = super().write(data)
        self._size += written
        return written

    def _rotate(self) -> None:
        self.reopen()
        for number in range(self._backup_count, 0, -1):
            source = f"{self.path}.{number - 1}" if number > 1 else self.path
            with contextlib.suppress(FileNotFoundError):
                os.replace(source, f"{self.path}.{number}")
        super().write(b"")


class TimedLogFile(LogFile):
    """Renamed to PATH.DATE at intervals; only the newest `backup_count` are kept, all of them if that is 0."""

    def __init__(self, options: StreamOptions, path: str) -> None:
        super().__init__(path)
        self._options = options
        self._start = self._next = 0.0

    def _opened(self, fd: int) -> None:
        found = os.fstat(fd)
        # A file that an earlier run left goes by its last line, so that a restart does not put rotation off for ever.
        self._start = found.st_mtime if found.st_size else time.time()
        options = self._options
        self._next = next_rotation(self._start, options.rotate_when, options.rotate_interval, utc=options.utc)

    def write(self, data: bytes) -> int:
        """Append, after a rotation if it is time; raises OSError."""
        if self._fd is None:
            super().write(b"")
        if time.time() >= self._next:
            self._rotate()
        return super().write(data)

    def _rotate(self) -> None:
        self.reopen()
        name = rotated_name(self.path, self._start, self._options.rotate_when, utc=self._options.utc)
        if os.path.exists(name):  # two in the same second or hour, after a change of clock: keep both
            name = f"{name}~{time.time_ns()}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, name)
        folder, base = os.path.split(self.path)
        for each in surplus(base, os.listdir(folder), self._options.backup_count):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, each))
        super().write(b"")


class WatchedLogFile(LogFile):
    """Opened anew when somebody has moved it away, as logrotate does without a signal."""

    def write(self, data: bytes) -> int:
        """Append to the file that has the path now; raises OSError."""
        if self._fd is not None and not self._is_current(self._fd):
            self.reopen()
        return super().write(data)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False


def log_file(options: StreamOptions, path: str) -> LogFile:
    """Return the kind of file that the options ask for."""
    if options.kind is StreamClass.WATCHED_FILE:
        return WatchedLogFile(path)
    if options.kind is StreamClass.TIMED_FILE:
        return TimedLogFile(options, path)
    if options.max_bytes and options.backup_count:
        return SizedLogFile(path, options.max_bytes, options.backup_count)
    return LogFile(path)
