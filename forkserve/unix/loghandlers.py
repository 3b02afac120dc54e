"""Handlers of log lines that neither raise nor wait: for a descriptor, a file that can be reopened, and syslog.

Rules: a line that cannot be written is dropped and counted, and the next one that can reports the number. A file is
reopened before the old one is closed, so a missing folder costs no line except one that reports it.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import time

from forkserve.unix.links import open_appending
from forkserve.unix.outlet import Outlet
from forkserve.unix.rotating import is_open_file, shift

__all__ = ["DescriptorHandler", "FileHandler", "LineHandler", "RecordHandler", "SyslogHandler", "reopen"]

RETRY = 1.0
"""Seconds between two tries to open a file, or to reach a syslog, after a failure."""
LONGEST = 8192
"""Bytes of one datagram to syslog; the default of rsyslog, journald takes more."""
SEVERITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
"""Facility codes of RFC 5424 section 6.2.1."""

_wishes = 0


def reopen() -> None:
    """Let every file be opened again before its next line, as logrotate expects after SIGUSR1."""
    global _wishes
    _wishes += 1


class LineHandler(logging.Handler):
    """Common to all: `_send` writes, or raises OSError; it returns False if there was no room.

    `counts` is whether dropped lines are reported among the others: not if each line must have a fixed form.
    """

    counts = True
    fd = -1
    """The descriptor to write to, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 - arguments that do not fit, an object whose text cannot be had
            text = f"{record.name}: a log call is broken ({type(error).__name__}): {record.msg!r}"
        try:
            note = f"{self.dropped} lines before this one could not be written"
            if self.dropped and (not self.counts or self._send(self._note(note), record)):
                self.dropped = 0
            if self._send(text, record):
                return
        except (OSError, ValueError):  # full, gone, closed
            pass
        self.dropped += 1

    def handleError(self, record: logging.LogRecord) -> None:
        """Count a lost line; logging.raiseExceptions is the application's."""
        self.dropped += 1

    def _send(self, text: str, record: logging.LogRecord) -> bool:
        raise NotImplementedError

    def _note(self, text: str) -> str:
        return self.format(logging.LogRecord("forkserve.logs", logging.WARNING, "", 0, text, None, None))


class DescriptorHandler(LineHandler):
    """Writes lines to a descriptor that is already open; `patience` as for `Outlet`."""

    def __init__(self, fd: int, *, patience: float) -> None:
        super().__init__()
        self.fd = fd
        self._outlet = Outlet(fd, patience=patience)
        self._rest = b""
        """The rest of a line that was not written whole; it comes before all others."""

    def _send(self, text: str, record: logging.LogRecord) -> bool:
        if self._rest:
            self._rest = self._rest[self._outlet.write(self._rest) :]
        if self._rest:
            return False
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        sent = self._outlet.write(data)
        self._rest = data[sent:] if sent else b""
        return sent > 0

    def close(self) -> None:
        self._outlet.close()
        super().close()


class RecordHandler(DescriptorHandler):
    """Sends records to a program that reads a pipe; it is notified when `reopen()` was called."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, patience=0.0)
        self._seen = _wishes

    def _send(self, text: str, record: logging.LogRecord) -> bool:
        if self._seen != _wishes and super()._send('{"reopen": true}', record):
            self._seen = _wishes
        return super()._send(text, record)


class FileHandler(LineHandler):
    """Writes lines to a file, reopened when `reopen()` was called; raises OSError if it cannot be opened at first."""

    def __init__(self, path: str, *, patience: float) -> None:
        super().__init__()
        self._max_bytes = self._backups = 0
        self._watches = False
        # Once: the working directory may be gone, or another, when it is opened again.
        self.path = os.path.abspath(path)
        self._patience = patience
        self._seen = _wishes
        self._not_before = 0.0
        self._told = False
        self.fd = -1
        self._to: DescriptorHandler | None = None
        self._open()

    def _send(self, text: str, record: logging.LogRecord) -> bool:
        if self._max_bytes and self._to is not None and time.monotonic() >= self._not_before:
            self._rotate(len(text.encode("utf-8", "backslashreplace")) + 1)
        if self._is_to_be_opened() and time.monotonic() >= self._not_before:
            try:
                self._open()
            except OSError as error:
                self._not_before = time.monotonic() + RETRY
                if self._to is not None and not self._told:
                    self._told = True
                    reason = error.strerror or str(error)
                    note = f"{self.path} cannot be opened again: {reason}; lines go to the old file, it is tried again"
                    self._to._send(self._note(note), record)
        return self._to is not None and self._to._send(text, record)

    def _is_to_be_opened(self) -> bool:
        if self._to is None or self._seen != _wishes:
            return True
        return self._watches and self._was_moved()

    def _was_moved(self) -> bool:
        here = os.fstat(self.fd)
        try:
            return stat.S_ISREG(here.st_mode) and not os.path.samestat(os.stat(self.path), here)
        except OSError:
            return True

    def watch(self) -> None:
        """Reopen the file when it was moved away, too, for a program that gets no notification of that."""
        self._watches = True

    def rotate_at(self, max_bytes: int, backups: int) -> None:
        """Rotate the file before it grows past this many bytes, unless that is 0, and keep this many backups."""
        self._max_bytes, self._backups = max_bytes, backups

    def _rotate(self, coming: int) -> None:
        """Move a full file away; if that fails, append to it, and try again later."""
        size = os.fstat(self.fd).st_size
        if not size or size + coming <= self._max_bytes or not is_open_file(self.path, self.fd):
            return
        try:
            shift(self.path, self._backups)
            self._open()
        except OSError:
            self._not_before = time.monotonic() + RETRY

    def _open(self) -> None:
        seen = _wishes
        fd = open_appending(self.path, nonblocking=True)
        self._close_file()
        self.fd, self._to, self._seen, self._told = fd, DescriptorHandler(fd, patience=self._patience), seen, False

    def _close_file(self) -> None:
        if self._to is not None:
            self._to.close()
            os.close(self.fd)
            self._to = None

    def close(self) -> None:
        self._close_file()
        super().close()


class SyslogHandler(LineHandler):
    """Sends lines to syslog, a datagram each; `address` is a path, or a host and a port, looked up here, once.

    Raises OSError if it cannot be reached at first.
    """

    def __init__(self, address: str | tuple[str, int], facility: int) -> None:
        super().__init__()
        self._socket: socket.socket | None = None
        self._facility = facility
        self._family, self._target = socket.AF_UNIX, address
        if not isinstance(address, str):
            host, port = address
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._family, self._target = found[0], found[4]  # type: ignore[assignment]
        self._not_before = 0.0
        self._socket = self._connect()

    def _send(self, text: str, record: logging.LogRecord) -> bool:
        severity = SEVERITIES.get(record.levelname, 6)
        data = f"<{self._facility << 3 | severity}>{text}".encode("utf-8", "backslashreplace")
        self._datagram(data[:LONGEST] + b"\0")
        return True

    def _datagram(self, data: bytes) -> None:
        """Send, or raise OSError; a syslog that was started again has another socket at its path."""
        if self._socket is not None:
            try:
                self._socket.send(data)
                return
            except BlockingIOError:
                raise
            except OSError:
                self._drop_socket()
        if time.monotonic() < self._not_before:
            raise ConnectionRefusedError
        self._not_before = time.monotonic() + RETRY
        self._socket = self._connect()
        self._socket.send(data)

    def _connect(self) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(self._target)
        except OSError:
            sock.close()
            raise
        return sock

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._drop_socket()
        super().close()
