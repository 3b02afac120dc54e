"""A process that outlives the harness by a moment.

when the harness dies, even by SIGKILL, it ends what the harness started.

It reads session ids from its standard input, one a line, and at end of file kills every process of those sessions,
and every process that carries the run's mark in its environment (a daemon may leave its session, a process may
overwrite its environment: the two together find all), by pid. It touches nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["MARK", "Guard", "end_all"]

MARK = "FORKSERVE_BENCH_RUN"


def _ours(pid: int, sessions: set[int], mark: bytes) -> bool:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False  # ended already; whoever reaps it is not us
        if os.getsid(pid) in sessions:
            return True
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def end_all(sessions: set[int], token: str) -> list[int]:
    """Kill every process of these sessions or with this token; return the pids that were hit."""
    mark = f"{MARK}={token}".encode()
    hit: list[int] = []
    for entry in os.listdir("/proc"):
        pid = int(entry) if entry.isdigit() else 0
        if pid > 1 and pid != os.getpid() and _ours(pid, sessions, mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                hit.append(pid)
    return hit


class Guard:
    """The harness's end of it."""

    def __init__(self, token: str, scratch: str) -> None:
        """Start the guarding process, in a session of its own, deaf to Ctrl-C; `scratch` goes with the harness."""
        self.token = token
        self.sessions: set[int] = set()
        command = [sys.executable, "-m", "bench.harness.guard", token, scratch]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def watch(self, session: int) -> None:
        """Have a session ended with the harness."""
        self.sessions.add(session)
        if self._process.stdin:
            self._process.stdin.write(b"%d\n" % session)
            self._process.stdin.flush()

    def close(self) -> None:
        """End everything that is still there, then the guarding process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def main(token: str, scratch: str) -> None:
    """Read until the harness is gone, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions = {int(line) for line in sys.stdin.buffer}
    while end_all(sessions, token):
        pass
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
