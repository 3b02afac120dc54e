"""The master as a storm sees it from outside: its log, its control socket, and what /proc tells of it."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from forkserve.supervision.os.proc import children_of, relations

__all__ = ["Answer", "Victim", "connections_of", "halted"]

LOOP_LIMIT = 0.05
"""Seconds that a callback may hold the master's loop."""
HOLD = 0.5
"""Seconds above which one hold is a fault by itself. Now and then a busy virtual machine takes a tenth."""
PIPE = 4096
"""Bytes that the pipe on stderr holds: few, so that it is soon full."""

_FAULTS = re.compile(r"a bug in forkserve|a fault of the server| CRITICAL ")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d ")
_HELD = re.compile(r"held the loop for ([\d.]+) s")
_OURS = re.compile(r"there_is_no_such_module|SystemExit")


class Answer:
    """What a verb was answered, and when; `status` is 0 when the connection failed."""

    def __init__(self, status: int, body: Any, took: float) -> None:
        self.status, self.body, self.took = status, body, took


class _Control(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("control", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Victim:
    """One running master, and a thread that reads its log; the log can be left unread for a while."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.folder = folder
        self.control = folder / "control.sock"
        self.pidfile = folder / "storm.pid"
        self.lines: deque[str] = deque(maxlen=400)
        self.faults: list[str] = []
        self.holds: list[float] = []
        """For how many seconds callbacks have held the loop that did so for longer than LOOP_LIMIT."""
        self.halts: list[tuple[float, float]] = []
        """When this process was stopped by SIGSTOP: from, to."""
        self.reads = threading.Event()
        self.reads.set()
        self.ended = threading.Event()
        self._block: list[str] | None = None
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
        more = {"FORKSERVE_LOOP_LIMIT": str(LOOP_LIMIT), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir(exist_ok=True)
        arguments = ["-c", str(file), "--control", str(self.control), "--pidfile", str(self.pidfile)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forkserve", *arguments],
            cwd=folder,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
        )
        os.close(writing)
        self._stderr = reading
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The master's pid."""
        return self.process.pid

    def _read(self) -> None:
        rest = b""
        while True:
            self.reads.wait()
            data = os.read(self._stderr, 65536)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._look(line.decode("utf-8", "replace"))
            if not data:
                break
        os.close(self._stderr)
        self.ended.set()

    def _look(self, line: str) -> None:
        """Keep a line, and what is a fault of forkserve; tracebacks of applications that were spoilt are none.

        Others may write lines between those of a traceback; its last line names the exception.
        """
        self.lines.append(line)
        if line.startswith("Traceback "):
            self._block = [line]
        elif self._block is not None and not _STAMP.match(line):
            self._block.append(line)
            if line[:1] not in (" ", ""):
                block, self._block = self._block, None
                if not _OURS.search(line):
                    self.faults.append("\n".join(block))
        elif found := _HELD.search(line):
            self._note_hold(line, float(found[1]))
        elif _FAULTS.search(line):
            self.faults.append(line)

    def _note_hold(self, line: str, held: float) -> None:
        """Keep for how long the loop was held, unless the master was stopped meanwhile."""
        now = monotonic()
        if any(end > now - held - 5 and end - begin > held - 0.3 for begin, end in self.halts):
            return
        self.holds.append(held)
        if held > HOLD:
            self.faults.append(line)

    def call(self, verb: str, *, timeout: float, **parameters: Any) -> Answer:
        """Carry out a verb by the control socket."""
        begun = monotonic()
        connection = _Control(self.control, timeout)
        try:
            connection.request("POST", f"/v1/{verb}", json.dumps(parameters), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read() or b"null"), monotonic() - begun)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Answer(0, f"{type(error).__name__}: {error}", monotonic() - begun)
        finally:
            connection.close()

    def send(self, signum: int) -> None:
        """Send the master a signal."""
        self.process.send_signal(signum)

    def halt(self) -> None:
        """Stop the master by SIGSTOP."""
        self.halts.append((monotonic(), float("inf")))
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)
        if self.halts:
            self.halts[-1] = (self.halts[-1][0], monotonic())

    def descriptors(self) -> int:
        """Return how many descriptors the master has."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def limit_descriptors(self, soft: int | None) -> None:
        """Leave the master so many descriptors; None gives it, and what it has started meanwhile, the old limit."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        usual, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = (usual if soft is None else soft, hard)
        for pid in (self.pid, *(self.descendants() if soft is None else ())):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, wanted)

    def cpu(self) -> float:
        """Return the seconds of CPU that the master has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descendants(self) -> list[int]:
        """Return the pids of all that descends from the master."""
        everyone = relations()
        found = [self.pid]
        for each in found:
            found += [other.pid for other in everyone if other.parent == each]
        return found[1:]

    def children(self, *called: str) -> list[int]:
        """Return the living children whose command line or title contains one of these."""
        found = [each.pid for each in children_of(self.pid)]
        return [pid for pid in found if not called or any(each in _command_line(pid) for each in called)]

    def companions(self) -> list[int]:
        """Return the guard and the log writer."""
        return self.children("forkserve: guard", "forkserve: log")

    def notify_folders(self) -> set[Path]:
        """Return the folders of the notify sockets, as the processes are told them."""
        found: set[Path] = set()
        for pid in self.children():
            with contextlib.suppress(OSError):
                for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    name, _, value = each.partition(b"=")
                    if name == b"NOTIFY_SOCKET" and value.startswith(b"/"):
                        found.add(Path(os.fsdecode(value)).parent)
        return found

    def kill_everything(self) -> None:
        """Leave nothing behind after a failure."""
        for pid in [*self.descendants(), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def halted(pid: int) -> Iterator[int | None]:
    """Stop a process and give a pidfd of it, or None when it has gone; it goes on at the end if it is still there."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        _wait_until_stopped(pid)
        yield pidfd
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        os.close(pidfd)


def _wait_until_stopped(pid: int) -> None:
    deadline = monotonic() + 5
    while monotonic() < deadline:
        try:
            states = {Path(each).read_text().rpartition(")")[2].split()[0] for each in _tasks(pid)}
        except OSError:
            return
        if states <= {"T", "t", "Z", "X"}:
            return
        select.select([], [], [], 0.002)


def _tasks(pid: int) -> list[Path]:
    return [Path(f"/proc/{pid}/task/{each}/stat") for each in os.listdir(f"/proc/{pid}/task")]


def connections_of(pid: int) -> list[tuple[str, int]]:
    """Return the other ends of the TCP connections that a process has."""
    inodes = set()
    with contextlib.suppress(OSError):
        for each in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{each}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and fields[3] != "0A":  # not listening
            address, _, port = fields[2].partition(":")
            host = socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))
            found.append((host, int(port, 16)))
    return found
