"""A started server.

Pinned, in its own session, its output in a file, waited for until it answers, and ended with all its children.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.harness import procs
from bench.harness.guard import MARK, Guard
from bench.harness.model import BenchError
from bench.harness.probe import Answer, Request, ask
from bench.harness.servers import Reload, Server
from bench.harness.supervisors import circusctl_reload
from bench.harness.target import Launch, program

__all__ = ["APPS", "Running"]

APPS = Path(__file__).parent.parent / "apps"
CHECKOUT = f"{Path(__file__).resolve().parents[2]}/"  # whoever repeats a command has it elsewhere
GRACE = 4.0  # seconds from SIGTERM to SIGKILL
CALM = 4  # tenths of a second with next to no CPU, after which a server counts as started


class Running:
    """One server process tree. Ending it is the caller's duty: use it as a context manager."""

    def __init__(self, server: Server, launch: Launch, *, prefix: list[str], guard: Guard, env: dict[str, str]) -> None:
        """Start the server; raises BenchError when its program is missing."""
        self.server = server
        self.launch = launch
        self.argv = [*prefix, *server.argv(launch)]
        self._guard = guard
        self._env = env
        self.spawn()

    def spawn(self) -> None:
        """Start the process (again)."""
        self.log = self.launch.folder / "output.txt"
        with self.log.open("ab") as output:
            try:
                self.process = subprocess.Popen(
                    self.argv, cwd=self.launch.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=output,
                    stderr=output, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise BenchError(f"cannot start {self.argv[0]}: {error}") from error
        self.started = time.monotonic()
        self._guard.watch(self.process.pid)

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return {
            "PATH": path,
            "HOME": str(self.launch.folder),
            "TMPDIR": str(self.launch.folder),
            "XDG_RUNTIME_DIR": str(self.launch.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{self.launch.folder}:{APPS}",
            MARK: self._guard.token,
            **self._env,
        }

    @property
    def command(self) -> str:
        """The line to run by hand, from a folder that has the application."""
        return shlex.join(self.argv).replace(CHECKOUT, "")

    @property
    def pid(self) -> int:
        """The process we started: the master, where there is one."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether that process still runs."""
        return self.process.poll() is None

    def wait_ready(self, request: Request, timeout: float = 30.0) -> tuple[float, Answer]:
        """Ask until the server answers with 200; return seconds since the start, and the answer.

        Raises BenchError when it ends or does not answer in time.
        """
        deadline, refusals = self.started + timeout, 0
        pidfd = os.pidfd_open(self.pid)
        try:
            while time.monotonic() < deadline:
                answer = ask(self.launch, request, timeout=5.0)
                if answer.status == 200:
                    return time.monotonic() - self.started, answer
                refusals += answer.status >= 400
                if refusals > 50:
                    raise BenchError(f"answers with status {answer.status}: {self.last_words()}")
                # The exit of the process ends the wait at once; otherwise it is time to ask again in 5 ms.
                if select.select([pidfd], [], [], 0.005)[0]:
                    raise BenchError(f"ended with status {self.process.wait()} at start: {self.last_words()}")
        finally:
            os.close(pidfd)
        raise BenchError(f"did not answer in {timeout:.0f} s: {self.last_words()}")

    def settle(self, timeout: float = 15.0) -> None:
        """Wait until the server does nothing: all its workers have started, not only the first that answered.

        Raises BenchError when it ends.
        """
        deadline, calm, before = time.monotonic() + timeout, 0, -1.0
        pidfd = os.pidfd_open(self.pid)
        try:
            while calm < CALM and time.monotonic() < deadline:
                used = procs.usage(self.pid).cpu
                calm = calm + 1 if used - before <= 0.01 else 0
                before = used
                if select.select([pidfd], [], [], 0.1)[0]:
                    raise BenchError(f"ended with status {self.process.wait()} at start: {self.last_words()}")
        finally:
            os.close(pidfd)

    def last_words(self) -> str:
        """Return the last line of its output that tells of an error, else the last one."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if any(word in line.lower() for word in ("error", "critical", "failed"))]
        return (telling or lines or ["no output"])[-1][:200]

    def reload(self) -> None:
        """Bring in new code in the server's own way, or restart it when it has none."""
        way = self.server.reload
        if way is Reload.HUP:
            if self.alive:
                os.kill(self.pid, signal.SIGHUP)
        elif way is Reload.UWSGI_CHAIN:
            with contextlib.suppress(OSError):
                fifo = os.open(self.launch.folder / "fifo", os.O_WRONLY | os.O_NONBLOCK)
                os.write(fifo, b"c")
                os.close(fifo)
        elif way is Reload.CIRCUSCTL:
            subprocess.Popen(circusctl_reload(self.launch.folder), stdout=subprocess.DEVNULL, env=self._environment())
        else:
            self.stop()
            self.spawn()

    def control(self, *words: str) -> int:
        """Run forkservectl for a forkserve that was started here; return its exit code.

        Its control socket is named: another forkserve of this user is never meant.
        """
        where = self.launch.folder / "forkserve" / f"forkserve-{self.pid}.sock"
        command = [program("forkservectl"), "--socket", str(where), *words]
        return subprocess.run(
            command, cwd=self.launch.folder, env=self._environment(), capture_output=True, timeout=60, check=False
        ).returncode

    def workers(self) -> list[int]:
        """Return the pids below the one we started."""
        return procs.descendants(self.pid)

    def stop(self) -> None:
        """TERM, wait, then KILL whatever of the tree is left, each by its pid."""
        processes = procs.tree(self.pid)
        if self.alive:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        for process in processes:
            # psutil refuses to signal a pid that has been given to another process since.
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        # Workers whose master has ended come to us, for Bench has made us their reaper. Waited for, their time is not
        # taken for that of other programs.
        for process in processes:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
