"""The process that writes captured output: only it waits for disks, so that the master never does.

It reads the pipes of all captured processes in one loop and passes whole lines to the queue of a sink; the sinks' own
threads write. It ends when the master has closed its socket and every pipe has come to its end, so it also writes the
last words of processes that outlive a killed master for a moment.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import select
import socket
import time
from dataclasses import dataclass

from forkserve.config.model import StreamClass
from forkserve.logwriter.classes import record
from forkserve.logwriter.lines import CAP, Decoration, LineSplitter, OpenLine
from forkserve.logwriter.protocol import LARGEST, Captured, LogOrder, captured_from, pack, unpack
from forkserve.logwriter.readers import Asked, Readers
from forkserve.logwriter.sinks import SinkQueue, destination_of, is_one_output, key_of, merged, sink_for
from forkserve.logwriter.syslog import Syslog

__all__ = ["LAST_WORDS", "write_logs"]

LAST_WORDS = 5.0
"""Seconds to read and write the rest, after the master has sent close."""
_ORPHANED = 60.0
"""Seconds to do so after the master has disappeared; its guard ends the processes before that."""
_PAUSE = 0.01
"""Seconds between two checks of a queue that asked for a pause."""
_UNFINISHED = 0.3
"""Seconds that a line may wait for its end; then its beginning is passed on."""
_CHUNK = 64 * 1024
_INFORMATIONAL, _WARNING = 6, 4  # severities of RFC 5424


@dataclass(slots=True)
class _Source:
    """A pipe, and the destination of its lines."""

    captured: Captured
    decoration: Decoration
    queue: SinkQueue
    readers: Readers
    splitter: LineSplitter

    def end(self) -> None:
        """Pass on the last line, which has no end; without decoration it stays as it is."""
        rest, stays = self.splitter.end(), self.decoration.is_plain and self.takes_parts
        self.pass_on(rest, ends=not stays)
        if not rest and not stays and self.queue.is_left_open_by(self):
            self.queue.put([b"\n"], self)

    def wants_a_pause(self) -> bool:
        """True while no more may be read, lest lines are dropped; what is passed on as it is waits for a stuck sink."""
        return self.queue.wants_a_pause(patiently=self.captured.options.as_it_is)

    @property
    def takes_parts(self) -> bool:
        """True for a destination that accepts a line in two parts."""
        return self.captured.options.kind is not StreamClass.SYSLOG

    def pass_on(self, lines: list[bytes], *, ends: bool = True) -> None:
        """Write lines; without `ends` the last one is the beginning of a line."""
        if not lines:
            return
        now = time.time()
        self.readers.take(self.captured, lines, now)
        options = self.captured.options
        if key_of(options)[0] == "syslog":
            tag = f"{self.captured.name}[{self.captured.pid}]"
            severity = _WARNING if self.captured.is_stderr else _INFORMATIONAL
            self.queue.put([Syslog.line(options.facility, severity, tag, line) + b"\n" for line in lines])
        elif options.kind is StreamClass.FOREIGN:
            about = self.captured
            last = len(lines) - 1
            self.queue.put(
                [
                    record(about.pid, is_stderr=about.is_stderr, line=line, ends=ends or number < last)
                    for number, line in enumerate(lines)
                ]
            )
        else:
            # as in Circus: what inherits that stdout writes to it unseen, and would continue the line in its colour
            ends = ends or self.decoration.color is not None
            continues = self.queue.is_left_open_by(self)
            made = self.decoration.apply(lines, now, continues=continues, ends=ends)
            self.queue.put(made, self, ends=ends)


def write_logs(fd: int) -> None:
    """Run until there is nothing left to write. `fd` is the socket to the master. Runs in the writer."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two pipes for each process, which epoll(7) can hold
    _Writer(socket.socket(fileno=fd)).run()


class _Writer:
    def __init__(self, master: socket.socket) -> None:
        self._master = master
        self._sources: dict[int, _Source] = {}
        self._queues: dict[tuple[str, str], SinkQueue] = {}
        self._open_lines: dict[tuple[str, str], OpenLine] = {}
        self._poll = select.epoll()
        self._poll.register(master, select.EPOLLIN)
        self._readers = Readers(self._poll)
        self._is_one_output = is_one_output()
        self._deadline: float | None = None
        self._paused: set[int] = set()
        self._unfinished: dict[int, float] = {}
        """When the beginning of a line is passed on."""

    def run(self) -> None:
        while self._deadline is None or (self._sources and time.monotonic() < self._deadline):
            for fd, events in self._poll.poll(self._patience()):
                if fd == self._master.fileno():
                    self._listen()
                elif fd in self._readers:
                    self._readers.on_ready(fd, events)
                elif fd in self._sources:
                    self._read(fd)
            self._resume()
            self._pass_on_unfinished()
        for fd in tuple(self._sources):
            self._end(fd)
        self._readers.close()
        for queue in self._queues.values():
            queue.close()
        until = time.monotonic() + LAST_WORDS
        for queue in self._queues.values():
            queue.join(max(0.0, until - time.monotonic()))

    def _patience(self) -> float | None:
        if self._paused:
            return _PAUSE
        instants = [*self._unfinished.values(), *(() if self._deadline is None else (self._deadline,))]
        return max(0.0, min(instants) - time.monotonic()) if instants else None

    def _pass_on_unfinished(self) -> None:
        now = time.monotonic() if self._unfinished else 0.0
        due = [fd for fd, instant in self._unfinished.items() if instant <= now]
        for fd in due:
            if fd in self._paused or _has_more(fd):  # its end may be there, and is not read yet
                continue
            del self._unfinished[fd]
            source = self._sources[fd]
            source.pass_on(source.splitter.end(), ends=False)

    def _resume(self) -> None:
        for fd in tuple(self._paused):
            if not self._sources[fd].wants_a_pause():
                self._paused.remove(fd)
                self._poll.register(fd, select.EPOLLIN)

    def _listen(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._master, LARGEST, 1)
        if not data:
            self._stop(_ORPHANED)
            return
        order, facts = unpack(data)
        if order is LogOrder.ADD and fds:
            try:
                self._add(fds[0], captured_from(facts))
            except Exception as error:  # noqa: BLE001 - all the other outputs must go on
                self._warn(f"the output of {facts.get('name')} cannot be captured: {error}")
                os.close(fds[0])
        elif order is LogOrder.TELL and fds:
            self._readers.add(fds[0], Asked.of(facts))
        elif order is LogOrder.REOPEN:
            for queue in self._queues.values():
                queue.reopen()
        elif order is LogOrder.CLOSE:
            self._stop(LAST_WORDS)

    def _stop(self, patience: float) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._poll.unregister(self._master)
        self._deadline = time.monotonic() + patience

    def _add(self, fd: int, captured: Captured) -> None:
        key = key_of(captured.options)
        if self._is_one_output:  # one queue for both, so that their lines do not mix
            key = merged(key)
        if key not in self._queues:
            place = key[1] or key[0]
            sink = sink_for(captured.options, self._warn)
            open_line = self._open_lines.setdefault(destination_of(key), OpenLine())
            self._queues[key] = SinkQueue(sink, place, self._warn, open_line=open_line)
        decoration = Decoration.of(captured.options, captured.name, captured.pid)
        splitter = LineSplitter(math.inf if captured.options.as_it_is else CAP)
        self._sources[fd] = _Source(captured, decoration, self._queues[key], self._readers, splitter)
        if captured.kept:
            self._readers.keep(captured)
        os.set_blocking(fd, False)
        self._poll.register(fd, select.EPOLLIN)

    def _read(self, fd: int) -> None:
        source = self._sources[fd]
        if source.wants_a_pause():
            self._paused.add(fd)
            self._poll.unregister(fd)
            return
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(fd)
            return
        lines = source.splitter.feed(data)
        source.pass_on(lines)
        if source.captured.options.as_it_is and source.splitter.is_long:
            source.pass_on(source.splitter.end(), ends=False)
        if lines:
            self._unfinished.pop(fd, None)
        if source.splitter.has_rest and source.takes_parts:
            self._unfinished.setdefault(fd, time.monotonic() + _UNFINISHED)

    def _end(self, fd: int) -> None:
        source = self._sources.pop(fd)
        self._unfinished.pop(fd, None)
        source.end()
        if fd in self._paused:
            self._paused.remove(fd)
        else:
            self._poll.unregister(fd)
        os.close(fd)
        self._readers.forget(each.captured.watcher for each in self._sources.values())

    def _warn(self, text: str) -> None:
        """Let the master log it. Runs in the thread of a sink, and does not wait for a stopped master."""
        with contextlib.suppress(OSError, json.JSONDecodeError):
            self._master.send(pack(LogOrder.WARN, {"text": text}), socket.MSG_DONTWAIT)


def _has_more(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
