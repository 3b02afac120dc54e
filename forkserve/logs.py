"""Where log lines go: stderr, a file that can be reopened, or syslog; and how a line looks.

Rules: one event, one line. A file is reopened by `reopen()`, which is safe in a signal handler: it only notes the wish,
and each handler acts at its next line. What cannot be written is dropped: a full disk stops no request.
"""

from __future__ import annotations

import logging
import socket
import sys
from io import BufferedWriter, FileIO, TextIOWrapper

from forkserve.errors import ExitCode, UsageError
from forkserve.unix.links import open_appending

__all__ = ["ReopeningFileHandler", "handler_for", "reopen", "set_up"]

FORMAT = "%(asctime)s.%(msecs)03d [%(process)d] %(levelname)s %(name)s: %(message)s"
DATES = "%Y-%m-%d %H:%M:%S"
SYSLOG_PATHS = ("/dev/log", "/var/run/syslog")

_wishes = 0


def reopen() -> None:
    """Let every file be opened anew before its next line, as logrotate expects after SIGUSR1."""
    global _wishes
    _wishes += 1


def set_up(level: str, output: str) -> None:
    """Send the package's log lines, and those of the application that has set up none of its own, to `output`.

    Raises UsageError if the place cannot be had.
    """
    logging.raiseExceptions = False
    handler = handler_for(output, "--log-output")
    handler.setFormatter(logging.Formatter(FORMAT, DATES))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("forkserve").setLevel(level.upper())


def handler_for(where: str, option: str) -> logging.Handler:
    """Return a handler for `-` (stderr), a file, or syslog://[HOST[:PORT]][/PATH][?FACILITY]; raises UsageError."""
    if where == "-":
        return logging.StreamHandler(sys.stderr)
    try:
        return _syslog(where) if where.startswith("syslog:") else ReopeningFileHandler(where)
    except (OSError, ValueError) as error:
        failure = UsageError(f"{option} {where}: {getattr(error, 'strerror', None) or error}")
        if isinstance(error, PermissionError):
            failure.exit_code = ExitCode.NO_PERMISSION
        raise failure from None


class ReopeningFileHandler(logging.FileHandler):
    """A log file that is opened anew when `reopen()` was called."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8")
        self.seen = _wishes

    def _open(self) -> TextIOWrapper:
        raw = FileIO(open_appending(self.baseFilename), "a")
        return TextIOWrapper(BufferedWriter(raw), encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        if self.seen != _wishes:
            self.seen = _wishes
            self.close()
            self._closed = False  # logging.Handler.close() marks it, and FileHandler.emit() would not open it again
        super().emit(record)


def _syslog(where: str) -> logging.Handler:
    # imported late: few log to syslog, and everybody starts
    from logging.handlers import SysLogHandler
    from urllib.parse import urlsplit

    parts = urlsplit(where)
    facility = SysLogHandler.facility_names.get(parts.query.lower() or "daemon")
    if facility is None:
        raise ValueError(f"unknown facility {parts.query!r}")
    address: str | tuple[str, int] = parts.path
    if parts.hostname:
        address = (parts.hostname, parts.port or 514)
    elif not parts.path:
        address = next((path for path in SYSLOG_PATHS if _exists(path)), SYSLOG_PATHS[0])
    return SysLogHandler(address, facility, socket.SOCK_DGRAM)


def _exists(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(path) == 0
