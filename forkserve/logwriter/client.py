"""The master's side of captured output: it creates the pipes, and passes their reading ends to the writer process.

No line passes through the master. It keeps a copy of each reading end, so that a writer that has died is replaced
without a process ever seeing a broken pipe; the next one reads what is in the pipe. Without streams there is no pipe
and no writer, and processes write to the master's own stdout and stderr. The reasons: docs/adr/0002.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from forkserve.config.model import StreamOptions
from forkserve.logwriter.protocol import LARGEST, VERSION, Captured, LogOrder, captured_from, pack, unpack
from forkserve.logwriter.server import write_logs
from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.fork_function import fork_companion

__all__ = ["Output", "Streams"]

TELLS = 2
"""The first version of a writer that answers requests for logs."""
MOST_UNSENT = 256
"""Orders that may wait for a stopped writer; beyond that, no more connections are passed to it."""


@dataclass(frozen=True, slots=True)
class _Pipe:
    options: StreamOptions
    reading: int
    writing: int


@dataclass(frozen=True, slots=True)
class Output:
    """The pipes for one process that is about to be spawned; ended by `Streams.attach` or `Streams.abandon`."""

    stdout: _Pipe | None
    stderr: _Pipe | None
    kept: int = 0
    """Bytes of the last output of its watcher that are kept."""

    @property
    def stdout_fd(self) -> int | None:
        """The child's stdout; None if it is not captured."""
        return None if self.stdout is None else self.stdout.writing

    @property
    def stderr_fd(self) -> int | None:
        """The child's stderr; None if it is not captured."""
        return None if self.stderr is None else self.stderr.writing


class Streams:
    """All captured output. The writer is forked when it is first needed; `fileno` then says when to `take`."""

    def __init__(self) -> None:
        # Once: a deployment may remove the folder that we were started in, and a writer is started later.
        self._folder = _working_directory()
        self.pid: int | None = None
        """The writer's, None if there is none. When it is reaped, call `lost`, then `restart`."""
        self._socket: socket.socket | None = None
        self._held: dict[int, list[tuple[Captured, int]]] = {}
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        self._ended: set[int] = set()
        """Descriptors that are closed as soon as the writer has taken them: reading ends of ended processes, and
        connections of clients that ask for logs.
        """
        self._speaks = VERSION
        """The protocol version of the writer."""

    def to_data(self) -> dict[str, Any]:
        """Return its state as plain data: the writer and its pipes outlive an exec of the master."""
        return {
            "folder": self._folder,
            "speaks": self._speaks,
            "pid": self.pid,
            "fd": descriptor(self.fileno()),
            "held": {
                str(pid): [[captured.facts(), descriptor(reading)] for captured, reading in each]
                for pid, each in self._held.items()
            },
            "unsent": [[data.decode(), descriptor(-1 if fd is None else fd)] for data, fd in self._unsent],
            "ended": [descriptor(fd) for fd in sorted(self._ended)],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Streams:
        """Return the streams of another one, with the same writer."""
        streams = cls()
        streams._folder, streams.pid = data["folder"], data["pid"]
        streams._speaks = data.get("speaks", 1)
        fd = number_of(data["fd"])
        streams._socket = None if fd < 0 else socket.socket(fileno=fd)
        streams._held = {
            int(pid): [(captured_from(facts), number_of(reading)) for facts, reading in each]
            for pid, each in data["held"].items()
        }
        unsent = [(text.encode(), number_of(fd)) for text, fd in data["unsent"]]
        streams._unsent = deque((text, None if fd < 0 else fd) for text, fd in unsent)
        streams._ended = {number_of(each) for each in data["ended"]}
        return streams

    def open(self, stdout: StreamOptions | None, stderr: StreamOptions | None, *, kept: int = 0) -> Output:
        """Create the pipes for one process; raises OSError when descriptors or processes have run out.

        Check `fileno` afterwards: the first call that captures anything forks the writer.
        """
        if (stdout or stderr) and self.pid is None:
            self.restart()
        out = _pipe(self._placed(stdout))
        try:
            return Output(out, _pipe(self._placed(stderr)), kept)
        except OSError:
            _close(out)
            raise

    @property
    def may_pass_on(self) -> bool:
        """True unless more pipes would take too many descriptors, or a writer of older code runs."""
        pipes, most = sum(map(len, self._held.values())), resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
        return pipes <= most and (self.pid is None or self._speaks == VERSION)

    def _placed(self, options: StreamOptions | None) -> StreamOptions | None:
        """Return options with an absolute path, which does not depend on the working directory."""
        if options is None or options.filename is None:
            return options
        return replace(options, filename=os.path.normpath(os.path.join(self._folder, options.filename)))

    def attach(self, output: Output, *, name: str, pid: int, watcher: str = "") -> None:
        """Let the output of the process be written from now on. `name` is its canonical one, `web[3]`."""
        held = []
        for pipe, is_stderr in ((output.stdout, False), (output.stderr, True)):
            if pipe is not None:
                os.close(pipe.writing)
                captured = Captured(name, pid, is_stderr, pipe.options, watcher, output.kept)
                held.append((captured, pipe.reading))
                self._send(pack(LogOrder.ADD, captured.facts()), pipe.reading)
        if held:
            self._held[pid] = held

    def abandon(self, output: Output) -> None:
        """Close the pipes of a process that could not be spawned."""
        _close(output.stdout)
        _close(output.stderr)

    def forget(self, pid: int) -> None:
        """Release the pipes of a process that has ended; the writer reads them to their end."""
        self.flush()
        unsent = {fd for _, fd in self._unsent}
        for _, reading in self._held.pop(pid, []):
            if reading in unsent:
                self._ended.add(reading)
            else:
                os.close(reading)

    @property
    def can_tell(self) -> bool:
        """True if there is a writer that accepts requests."""
        return self.pid is not None and self._speaks >= TELLS and len(self._unsent) < MOST_UNSENT

    def tell(self, connection: int, facts: dict[str, Any]) -> None:
        """Let the writer answer a request for logs over `connection`, which is closed here. See `readers.Asked`."""
        if not self.can_tell:
            os.close(connection)
            return
        self._ended.add(connection)
        self._send(pack(LogOrder.TELL, facts), connection)

    def reopen(self) -> None:
        """Let all files be reopened, as logrotate expects after SIGUSR1."""
        if self.pid is not None:
            self._send(pack(LogOrder.REOPEN), None)

    def fileno(self) -> int:
        """Return the descriptor that is readable when the writer has sent something; -1 if there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def take(self) -> list[str]:
        """Return the warnings of the writer that have arrived, one a line."""
        warnings: list[str] = []
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while self._socket is not None and (data := self._socket.recv(LARGEST)):
                warnings.append(str(unpack(data)[1]["text"]))
        return warnings

    def lost(self) -> None:
        """Note that the writer was reaped; output waits in its pipes until `restart`."""
        self._drop_socket()

    def restart(self) -> None:
        """Fork another writer, after the old one was reaped, and pass every pipe to it; raises OSError.

        If that fails, the next `open` tries again.
        """
        self._drop_socket()
        self._fork()
        for each in self._held.values():
            for captured, reading in each:
                self._send(pack(LogOrder.ADD, captured.facts()), reading)

    def close(self) -> int | None:
        """Let the writer finish, and return its pid, to be reaped: it writes what is left and ends within 10 s."""
        pid = self.pid
        if self._socket is not None:
            self._send(pack(LogOrder.CLOSE), None)
        self._drop_socket()
        for each in self._held.values():
            for _, reading in each:
                os.close(reading)
        self._held.clear()
        return pid

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = fork_companion(
                "forkserve: log writer",
                lambda: write_logs(theirs.fileno()),
                standard={1: 1, 2: 2},
                keep=theirs.fileno(),
            )
        ours.setblocking(False)
        self._socket, self._speaks = ours, VERSION

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self.pid = None
        self._unsent.clear()
        for reading in self._ended:
            os.close(reading)
        self._ended.clear()

    def _send(self, data: bytes, fd: int | None) -> None:
        self._unsent.append((data, fd))
        self.flush()

    def flush(self) -> None:
        """Send what a stopped or starved writer could not take before; called with each order."""
        while self._unsent and self._socket is not None:
            data, fd = self._unsent[0]
            try:
                socket.send_fds(self._socket, [data], [] if fd is None else [fd], socket.MSG_DONTWAIT)
            except OSError:  # full: later; closed: `restart` sends it again
                return
            self._unsent.popleft()
            if fd in self._ended:
                self._ended.remove(fd)
                os.close(fd)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _pipe(options: StreamOptions | None) -> _Pipe | None:
    return None if options is None else _Pipe(options, *os.pipe2(os.O_CLOEXEC))


def _close(pipe: _Pipe | None) -> None:
    if pipe is not None:
        os.close(pipe.reading)
        os.close(pipe.writing)
