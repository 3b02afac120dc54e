"""Destinations of log lines: stderr, a file that can be reopened, or syslog; and the format of a line.

Rules: one event, one line, without control characters. A file is reopened by `reopen()`, which is safe in a signal
handler: it only sets a flag, and each handler acts at its next line. A call neither raises nor waits for long: what
cannot be written is dropped and counted (`loghandlers`). The root logger and the flags of the logging module are the
application's; its configuration does not silence our loggers.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
from typing import Any

from forkserve.errors import ExitCode, UsageError
from forkserve.unix.loghandlers import DescriptorHandler, FileHandler, LineHandler, RecordHandler, SyslogHandler, reopen

__all__ = ["OURS", "LineFormatter", "adopt", "handler_for", "reopen", "send_records", "set_up", "watch_file"]

FORMAT = "%(asctime)s.%(msecs)03d [%(process)d] %(levelname)s %(name)s: %(message)s"
DATES = "%Y-%m-%d %H:%M:%S"
SYSLOG_PATHS = ("/dev/log", "/var/run/syslog")
OURS = logging.getLogger("forkserve")
"""The parent of all our loggers; it has our handler once `set_up` was called."""
PARTS = (
    "application", "asgi", "backends", "circus", "control", "engine", "gateway", "hooks", "loop", "master", "plugins",
    "process", "reload", "reloader", "scoreboard", "socketpool", "status", "streams", "threads", "watcher", "worker",
    "wsgi",
)  # fmt: skip
"""All our loggers: `logging.config` disables each existing one that it does not name."""
_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_MOST_RELATED = 100

PATIENCE = 1.0
"""Seconds for which a line of a worker may wait for its reader."""


def set_up(level: str, output: str, *, patience: float = PATIENCE, max_bytes: int = 0, backups: int = 0) -> None:
    """Send the package's log lines to `output`, regardless of other loggers; raises UsageError if that is impossible.

    `patience` is how many seconds a line may wait for a pipe or a terminal that is full. What an earlier call has
    opened is closed: a worker that a zygote forks sets up its log again. A file is rotated at `max_bytes`, if that is
    not 0, and `backups` are kept.
    """
    handler = handler_for(output, "--log-output", patience=patience)
    if isinstance(handler, FileHandler):
        handler.rotate_at(max_bytes, backups)
    handler.setFormatter(LineFormatter(FORMAT, DATES))
    _put(handler, level)


def watch_file() -> None:
    """Reopen the file of the log when it was moved away; the master, which moves it, notifies only its workers."""
    for each in OURS.handlers:
        if isinstance(each, FileHandler):
            each.watch()


def _put(handler: LineHandler, level: str) -> None:
    before, OURS.handlers[:] = [*OURS.handlers], [handler]
    for each in before:
        if isinstance(each, LineHandler):
            each.close()
    OURS.propagate = False
    OURS.setLevel(level.upper())
    for logger in (OURS, *map(OURS.getChild, PARTS)):
        logger.__class__ = _OwnLogger


class _RecordFormatter(logging.Formatter):
    """Formats a record as a line of JSON, for the log program."""

    def format(self, record: logging.LogRecord) -> str:
        exc_text = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else None)
        fields = {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": record.getMessage(),
            "created": record.created,
            "msecs": record.msecs,
            "process": record.process,
            "exc_text": exc_text,
        }
        return json.dumps(fields)


def send_records(level: str, fd: int) -> None:
    """Send the package's records to the log program that reads from `fd`; records that find no room are dropped."""
    handler = RecordHandler(fd)
    handler.setFormatter(_RecordFormatter())
    _put(handler, level)


def adopt(*names: str) -> None:
    """Send the lines of a serving library to our destination, unless the application has configured one for them."""
    for name in names:
        logger = logging.getLogger(name)
        logger.disabled = False
        if not logger.hasHandlers():
            logger.handlers[:] = OURS.handlers
            logger.propagate = False


class _OwnLogger(logging.Logger):
    """A logger that the application can disable only by name, not by `logging.config` or `logging.disable`.

    By default dictConfig and fileConfig set `disabled` on each existing logger that they do not name.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        return level >= self.getEffectiveLevel()

    def makeRecord(self, *args: Any, **keywords: Any) -> logging.LogRecord:
        """Make a record by the application's factory, or without it if that fails.

        A factory that adds data of a request, such as a context variable without a default, fails outside of requests.
        """
        try:
            return super().makeRecord(*args, **keywords)
        except Exception:  # noqa: BLE001 - the application's; a call of ours does not raise
            return _plain_record(*args, **keywords)


def _plain_record(  # noqa: PLR0913 - those of logging.Logger.makeRecord
    name: str, level: int, path: str, line: int, message: Any, args: Any, exc_info: Any,
    func: str | None = None, extra: object = None, sinfo: str | None = None,
) -> logging.LogRecord:  # fmt: skip
    """Return a record of the arguments of `logging.Logger.makeRecord`."""
    return logging.LogRecord(name, level, path, line, message, args, exc_info, func, sinfo)


class LineFormatter(logging.Formatter):
    """One line for a message, more for a traceback; control characters and lone surrogates are escaped.

    Exceptions often repeat a client's input: an escape sequence would reach the reader's terminal, and a line end would
    forge a line. So the further lines of such a text are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            if record.exc_info and record.exc_info[1] is not None:
                record.exc_text = _indented(record.exc_text, record.exc_info[1])
            record.exc_text = _LINES.sub(_escaped, record.exc_text)
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _LINE.sub(_escaped, super().formatMessage(record))

    def formatStack(self, stack_info: str) -> str:
        return _LINES.sub(_escaped, stack_info)


def _indented(trace: str, error: BaseException) -> str:
    """Indent the lines of the text of an exception, or of its causes."""
    for said in {_text(each) for each in _related(error)}:
        if "\n" in said:
            trace = trace.replace(said, said.replace("\n", "\n    "))
    return trace


def _related(error: BaseException) -> list[BaseException]:
    """Return an exception and those that a traceback shows with it."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo and len(found) < _MOST_RELATED:
        each = todo.pop()
        if each is not None and not any(each is one for one in found):
            found.append(each)
            todo += (each.__cause__, each.__context__)
    return found


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the application's; the traceback says so too
        return ""


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def handler_for(where: str, option: str, *, fd: int = 2, patience: float = PATIENCE) -> LineHandler:
    """Return a handler for `-` (the descriptor `fd`), a file, or syslog://[HOST[:PORT]][/PATH][?FACILITY].

    Raises UsageError.
    """
    try:
        if not where:
            raise ValueError("expected - (stderr), a file or syslog://...")
        if where == "-":
            return DescriptorHandler(fd, patience=patience)
        return _syslog(where) if where.startswith("syslog:") else FileHandler(where, patience=patience)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.ENXIO:  # open(2) of a FIFO for writing, with O_NONBLOCK
            reason = "nobody reads from it"
        failure = UsageError(f"{option} {where}: {reason}")
        if isinstance(error, PermissionError):
            failure.exit_code = ExitCode.NO_PERMISSION
        raise failure from None


def _syslog(where: str) -> SyslogHandler:
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
    return SyslogHandler(address, facility)


def _exists(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(path) == 0
