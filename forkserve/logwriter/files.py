"""Files that lines are appended to, rotated by size or by time, or by another program.

Rules: every call may block as long as the disk does, so all of it runs in a thread of the writer process, never in the
master. An open file is only closed once its successor has been opened: if a rotation or a reopening fails, lines go to
the old one. While there is no file at all, they go to standard error. A failure to write is an OSError; the file is
opened again at the next try, so a repaired disk is used again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logwriter.rotation import next_rotation, rotated_name, surplus
from forkserve.unix.links import open_appending
from forkserve.unix.outlet import Outlet
from forkserve.unix.rotating import is_open_file, shift

__all__ = ["LogFile", "SizedLogFile", "TimedLogFile", "WatchedLogFile", "log_file"]

Report = Callable[[str], None]
"""Called with a line about what cannot be done; with the same again only after it could."""
_RETRY = 1.0
"""Seconds between two tries to open a file, or to rotate it."""
_STUCK = 1.0
"""Seconds for which a write waits for standard error."""


class LogFile:
    """A file, created if necessary, always appended to."""

    def __init__(self, path: str, report: Report) -> None:
        self.path = os.path.abspath(path)
        self._report = report
        self._fd: int | None = None
        self._is_stale = False
        self._not_before = 0.0
        self._told = ""
        self._error: OSError | None = None
        self._elsewhere = Outlet(2, patience=_STUCK)

    def write(self, data: bytes) -> int:
        """Append, and return how many bytes were written; raises OSError."""
        if self._fd is None or self._is_stale:
            self._renew()
        if self._fd is not None:
            return os.write(self._fd, data)
        sent = self._elsewhere.write(data)
        if data and not sent:
            raise self._error or BlockingIOError
        return sent

    def _renew(self) -> None:
        """Open the path in place of the open file; if that fails, stay as it is, and try again later."""
        if time.monotonic() < self._not_before:
            return
        try:
            fd = open_appending(self.path)
        except OSError as error:
            self._not_before = time.monotonic() + _RETRY
            self._error = error
            where = "standard error" if self._fd is None else "the old file"
            self._complain(f"cannot open {self.path}: {error.strerror or error}; lines go to {where} until it can be")
            return
        self.close()
        self._told = ""
        self._fd, self._is_stale, self._not_before = fd, False, 0.0
        self._opened(fd)

    def _complain(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._report(text)

    def _opened(self, fd: int) -> None:
        """Record properties of the new file."""

    def _can_be_renamed(self) -> bool:
        """Tell whether the path is a regular file, and the open one: not /dev/stdout, a FIFO or a link."""
        return self._fd is not None and is_open_file(self.path, self._fd)

    def _move_away(self, renames: Callable[[], None]) -> bool:
        """Carry out the renames of a rotation and open the path again; False, with the file as it was, if it cannot."""
        if self._fd is None or time.monotonic() < self._not_before:
            return False
        if not self._can_be_renamed():
            if not os.path.lexists(self.path):
                self._renew()  # another process has moved it
                return not self._is_stale
            self._not_before = time.monotonic() + _RETRY
            self._complain(f"{self.path} is not rotated: it is not a regular file, or was replaced")
            return False
        try:
            renames()
        except OSError as error:
            self._not_before = time.monotonic() + _RETRY
            self._complain(f"cannot rotate {self.path}: {error.strerror or error}; lines are appended until it can be")
            return False
        self._not_before = 0.0
        self._is_stale = True
        self._renew()
        return True

    def reopen(self) -> None:
        """Let the next write open the path again, as logrotate expects."""
        self._is_stale, self._not_before = True, 0.0

    def close(self) -> None:
        """Close the file; a write opens it again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # close(2) may tell of an earlier write; the descriptor is gone anyway
                os.close(fd)


class SizedLogFile(LogFile):
    """Rotated to PATH.1, PATH.2 ... before it would grow past `max_bytes`."""

    def __init__(self, path: str, report: Report, *, max_bytes: int, backup_count: int) -> None:
        super().__init__(path, report)
        self._max_bytes = max_bytes
        self._backup_count = backup_count
        self._size = 0

    def _opened(self, fd: int) -> None:
        self._size = os.fstat(fd).st_size

    def write(self, data: bytes) -> int:
        """Append as many whole lines as fit, and return how many bytes were written; raises OSError."""
        if self._fd is None:
            self._renew()
        is_full = self._size and self._size + data.find(b"\n") + 1 > self._max_bytes
        if not is_full or self._move_away(self._shift):
            room = self._max_bytes - self._size
            if len(data) > room:
                data = data[: max(data.rfind(b"\n", 0, max(room, 0)), data.find(b"\n")) + 1 or len(data)]
        written = super().write(data)
        self._size += written
        return written

    def _shift(self) -> None:
        shift(self.path, self._backup_count)


class TimedLogFile(LogFile):
    """Renamed to PATH.DATE at intervals; only the newest `backup_count` are kept, all of them if that is 0."""

    def __init__(self, options: StreamOptions, path: str, report: Report) -> None:
        super().__init__(path, report)
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
            self._renew()
        if self._fd is not None and time.time() >= self._next:
            self._move_away(self._date)
        return super().write(data)

    def _date(self) -> None:
        name = rotated_name(self.path, self._start, self._options.rotate_when, utc=self._options.utc)
        if os.path.exists(name):  # two in the same second or hour, after a change of clock: keep both
            name = f"{name}~{time.time_ns()}"
        os.rename(self.path, name)
        folder, base = os.path.split(self.path)
        with contextlib.suppress(OSError):
            for each in surplus(base, os.listdir(folder), self._options.backup_count):
                os.unlink(os.path.join(folder, each))


class WatchedLogFile(LogFile):
    """Opened again when another program has moved it away, as logrotate does without a signal."""

    def write(self, data: bytes) -> int:
        """Append to the file that has the path now; raises OSError."""
        if self._fd is not None and not self._is_current(self._fd):
            self._is_stale = True
        return super().write(data)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except OSError:
            return False


def log_file(options: StreamOptions, path: str, report: Report) -> LogFile:
    """Return the kind of file for the options; `report` is called with what cannot be done."""
    if options.kind is StreamClass.WATCHED_FILE:
        return WatchedLogFile(path, report)
    if options.kind is StreamClass.TIMED_FILE:
        return TimedLogFile(options, path, report)
    if options.max_bytes and options.backup_count:
        return SizedLogFile(path, report, max_bytes=options.max_bytes, backup_count=options.backup_count)
    return LogFile(path, report)
