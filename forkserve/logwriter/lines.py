"""Cuts the output of a process into lines, and puts its name before each of them. Pure: bytes in, lines out.

A line is passed on when it is whole, so that lines of two processes never mix. One longer than the cap is passed on in
pieces, each a separate line, since waiting for its end might take all memory. What waits long for its end, such as a
prompt, is passed on as the beginning of a line.
"""

from __future__ import annotations

import math
import re
import time
import zlib
from dataclasses import dataclass

from forkserve.config.model import StreamClass, StreamOptions

__all__ = ["CAP", "Decoration", "LineSplitter", "OpenLine"]

CAP = 16 * 1024
"""Longest line in bytes, as for Docker's own loggers."""

_COLORS = ("red", "green", "yellow", "blue", "magenta", "cyan", "white")
_FANCY_TIME = "%Y-%m-%d %H:%M:%S"


class LineSplitter:
    """The line that a process has not ended yet; with an infinite cap no line is cut."""

    def __init__(self, cap: float = CAP) -> None:
        self._cap = cap
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._cap == math.inf:
            return lines
        cap = int(self._cap)
        pieces = [piece for line in lines for piece in self._pieces(line, cap)]
        while len(self._rest) >= cap:
            pieces.append(self._rest[:cap])
            self._rest = self._rest[cap:]
        return pieces

    @staticmethod
    def _pieces(line: bytes, cap: int) -> list[bytes]:
        if len(line) <= cap:
            return [line]
        return [line[start : start + cap] for start in range(0, len(line), cap)]

    @property
    def is_long(self) -> bool:
        """True while the line without its end is longer than a line should be."""
        return len(self._rest) >= CAP

    @property
    def has_rest(self) -> bool:
        """True while there is a line without its end."""
        return bool(self._rest)

    def end(self) -> list[bytes]:
        """Return the rest without an end of line; what follows is its continuation."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


@dataclass(frozen=True, slots=True)
class Decoration:
    """What is put before and after each line: `TIME [PID] NAME | `, of which each part is optional, and colour."""

    name: str
    pid: int
    time_format: str | None
    prefix: bool
    color: str | None = None

    @classmethod
    def of(cls, options: StreamOptions, name: str, pid: int) -> Decoration:
        """Return the decoration for the options; a fancy stream has one by its watcher's name."""
        if options.kind is not StreamClass.FANCY_STDOUT:
            return cls(name, pid, options.time_format, options.prefix)
        by_name = _COLORS[zlib.crc32(re.split(r"[:\[]", name)[0].encode()) % len(_COLORS)]
        color = options.color if options.color in _COLORS else by_name
        return cls(name, pid, options.time_format or _FANCY_TIME, options.prefix, color)

    @property
    def is_plain(self) -> bool:
        """True when nothing is put around a line."""
        return not self.prefix and self.time_format is None and self.color is None

    def apply(self, lines: list[bytes], now: float, *, continues: bool = False, ends: bool = True) -> list[bytes]:
        """Return the lines to write, with their ends. `now` is in seconds of the wall clock.

        With `continues` the first one continues an earlier one; without `ends` the last one has no end yet.
        """
        start, end = self._around(now)
        made = [start + line + end for line in lines]
        if continues:
            made[0] = made[0].removeprefix(start)
        if not ends:
            made[-1] = made[-1].removesuffix(end)
        return made

    def _around(self, now: float) -> tuple[bytes, bytes]:
        parts = []
        if self.time_format is not None:
            parts.append(f"{time.strftime(self.time_format, time.localtime(now))} [{self.pid}]")
        if self.prefix:
            parts.append(self.name)
        before = f"{' '.join(parts)} | " if parts else ""
        if self.color is None:
            return before.encode(), b"\n"
        return f"\033[3{_COLORS.index(self.color) + 1}m{before}".encode(), b"\033[0m\n"


class OpenLine:
    """The last line of a destination while it has no end yet, and which writer has put it there.

    What another writer puts next begins with the end of that line.
    """

    def __init__(self) -> None:
        self._writer: object = None

    def is_of(self, writer: object) -> bool:
        """Tell whether there is one, by this writer."""
        return self._writer is writer

    def put(self, lines: list[bytes], writer: object, *, ends: bool) -> list[bytes]:
        """Return the lines to write; without `ends` the last of them is open from now on."""
        is_of_another = self._writer is not None and self._writer is not writer
        self._writer = None if ends else writer
        return [b"\n", *lines] if is_of_another else lines

    def forget(self) -> None:
        """Called when the destination is another from now on."""
        self._writer = None
