"""The destination of the output of a watcher's processes: one frozen dataclass, one field per option.

Rules: as in `model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from forkserve.config.options import option
from forkserve.config.values import at_least, boolean, integer, member, one_of, optional, size, text

__all__ = ["StreamClass", "StreamOptions"]


class StreamClass(Enum):
    """Where the output of a process goes; the values are the names of Circus's classes, the last two are ours."""

    FILE = "FileStream"
    WATCHED_FILE = "WatchedFileStream"
    TIMED_FILE = "TimedRotatingFileStream"
    STDOUT = "StdoutStream"
    FANCY_STDOUT = "FancyStdoutStream"
    SYSLOG = "SyslogStream"
    STDERR = "StderrStream"
    FOREIGN = "package.module.Class"


ROTATE_WHEN = ("S", "M", "H", "D", "MIDNIGHT", "W0", "W1", "W2", "W3", "W4", "W5", "W6")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """The keys `stdout_stream.*` or `stderr_stream.*` of a watcher: the destination of its processes' output."""

    kind: StreamClass = option(
        StreamClass.FILE,
        "Kind of the stream; a filename alone means FileStream.",
        parse=member(StreamClass),
        aliases=("class",),
        choices=tuple(each.value for each in StreamClass),
    )
    filename: str | None = option(None, "File to append to.", parse=optional(text), metavar="FILE")
    max_bytes: int = option(
        0, "FileStream: size at which the file is rotated, such as 10M; 0 is never.", parse=size, check=at_least(0)
    )
    backup_count: int = option(0, "Rotated files to keep.", parse=integer, check=at_least(0))
    time_format: str | None = option(
        None, "strftime format put before each line together with the pid.", parse=optional(text)
    )
    rotate_when: str = option(
        "H",
        "TimedRotatingFileStream: unit of rotate_interval, or MIDNIGHT, or W0 (Monday) to W6.",
        parse=lambda value: value.strip().upper(),
        check=one_of(*ROTATE_WHEN),
        choices=ROTATE_WHEN,
    )
    rotate_interval: int = option(
        1, "TimedRotatingFileStream: units between two rotations.", parse=integer, check=at_least(1)
    )
    utc: bool = option(False, "TimedRotatingFileStream: reckon in UTC.", parse=boolean)
    color: str | None = option(
        None, "FancyStdoutStream: red, green, yellow, blue, magenta, cyan or white; else by name.", parse=optional(text)
    )
    prefix: bool = option(False, "Put the name of the process, such as web[3], before each line.", parse=boolean)
    address: str = option("/dev/log", "SyslogStream: a socket's path, or HOST:PORT over UDP.")
    facility: str = option("user", "SyslogStream: facility, such as daemon or local0.")

    as_it_is: bool = False
    """Whether bytes are passed on unchanged, and none is dropped, as if the process had the descriptor itself."""
    target: str = ""
    """The user's class, for FOREIGN."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Its keyword arguments."""
    path: tuple[str, ...] = ()
    """Folders that it may be imported from."""
