"""Connections are spread evenly over the workers of one queue, and none waits for a worker that is stuck."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.serving.engine.fairness import MOMENT
from tests.support.crowd import Crowd, answer, held
from tests.support.forkserving import Forkserve, descriptors, eventually, pause, running, scoreboard_of

APPS = Path(__file__).parent / "apps"
WORKER = Path(sys.executable).parent / "forkserve-worker"
BACKENDS = ("sync", "threads", "gevent", "asgi")
EACH = pytest.mark.parametrize("backend", BACKENDS)
EVEN = 2
"""Most that two workers may differ by: one that the machine holds for a moment misses a turn, and gets the next."""


@contextlib.contextmanager
def site(
    backend: str, folder: Path, *, workers: int = 4, environ: dict[str, str] | None = None
) -> Iterator[tuple[Forkserve, Crowd]]:
    """Run workers under a master on a socket of the test, and wait until all are ready."""
    app = "crowd:asgi" if backend == "asgi" else "crowd:wsgi"
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        fd = listener.fileno()
        worker = f"{WORKER} --backend {backend} --pythonpath {APPS} --fd $(circus.sockets.web) {app}"
        watcher = f"[watcher:web]\ncmd = {worker}\ncopy_env = true\nuse_sockets = true\nnumprocesses = {workers}\n"
        config = f"[socket:web]\nfd = {fd}\n{watcher}"
        with running(cwd=folder, config=config, pass_fds=(fd,), env=environ) as server:
            ready(server, workers)
            crowd = Crowd(listener.getsockname())
            try:
                yield server, crowd
            finally:
                crowd.close()


def ready(server: Forkserve, number: int) -> None:
    """Wait until so many more processes are ready."""
    for _ in range(number):
        server.expect(r"web\[\d+\] pid \d+ is ready")


def let_a_moment_pass() -> None:
    """Wait until who is busy now is busy for longer than a moment, up to which it still counts as free."""
    enough = time.monotonic() + 2 * MOMENT
    eventually(lambda: time.monotonic() > enough)


def assert_is_even(counts: Counter[int], *, without: int, total: int) -> None:
    others = sorted(count for pid, count in counts.items() if pid != without)
    assert len(others) == 3, counts
    assert sum(others) == total, counts
    assert others[-1] - others[0] <= EVEN, counts


def leave(crowd: Crowd, pid: int) -> None:
    """Hang up on one process, and wait until it has closed the connections."""
    before = descriptors(pid)
    gone = crowd.leave(pid)
    eventually(lambda: descriptors(pid) == before - gone)


def lost_all_of(server: Forkserve, crowd: Crowd, pid: int) -> int:
    """Kill one process and hang up on it; returns how many connections it had, when another has taken its place."""
    server.allow("ended by SIGKILL.*restarting")
    os.kill(pid, signal.SIGKILL)
    gone = crowd.leave(pid)
    server.expect(rf"pid {pid} was ended by SIGKILL")
    ready(server, 1)
    return gone


@EACH
def test_those_who_come_are_spread_evenly_one_by_one_at_once_and_after_a_kill(backend: str, tmp_path: Path) -> None:
    with site(backend, tmp_path) as (server, crowd):
        crowd.burst(32)

        assert len(crowd.counts) == 4
        assert crowd.gap <= EVEN, crowd.counts

        pids = list(crowd.counts)
        for pid in pids:
            leave(crowd, pid)
        for _ in range(32):
            crowd.come(1)
            shares = [crowd.counts[pid] for pid in pids]  # 0 for one that has none yet
            assert max(shares) - min(shares) <= EVEN, crowd.counts

        for burst in (False, True):
            gone = lost_all_of(server, crowd, next(iter(crowd.counts)))
            if burst:
                crowd.burst(gone)
            else:
                crowd.come(gone)

            assert len(crowd.counts) == 4
            assert crowd.gap <= EVEN, crowd.counts


def assert_nobody_comes_to_whom_is_held(backend: str, path: str, folder: Path) -> None:
    with held(folder) as hold, site(backend, folder, environ=hold.environ) as (_, crowd):
        crowd.come(8)
        slow = crowd.knock(path)
        hold.entered()
        let_a_moment_pass()

        crowd.come(30)
        free = crowd.counts

        hold.release()
        stuck = answer(slow)
        slow.close()
        assert free[stuck] == 2, (stuck, free)
        assert_is_even(free, without=stuck, total=36)


@EACH
def test_a_worker_that_is_held_gets_nobody_while_others_are_free(backend: str, tmp_path: Path) -> None:
    assert_nobody_comes_to_whom_is_held(backend, "/hold", tmp_path)


def test_a_loop_that_the_application_blocks_gets_nobody_while_others_are_free(tmp_path: Path) -> None:
    assert_nobody_comes_to_whom_is_held("asgi", "/hold-later", tmp_path)


def test_a_stopped_worker_gets_nobody(tmp_path: Path) -> None:
    with site("sync", tmp_path) as (_, crowd):
        crowd.come(4)
        stopped = next(iter(crowd.counts))
        pause(stopped)

        crowd.come(12)
        free = crowd.counts
        os.kill(stopped, signal.SIGCONT)

        assert free[stopped] == 1, free
        assert_is_even(free, without=stopped, total=15)
        # It is found out by and by that it is well again.
        eventually(lambda: crowd.come(1) or crowd.gap <= EVEN)


def test_those_who_leave_are_made_up_for(tmp_path: Path) -> None:
    with site("sync", tmp_path) as (_, crowd):
        crowd.come(32)
        for pid in list(crowd.counts)[:2]:
            leave(crowd, pid)
        crowd.come(16)

        assert len(crowd.counts) == 4
        assert crowd.gap <= EVEN, crowd.counts


@pytest.mark.slow
@EACH
def test_more_and_fewer_workers_share(backend: str, tmp_path: Path) -> None:
    with site(backend, tmp_path, workers=1) as (server, crowd):
        crowd.come(4)
        for _ in range(3):
            server.send(signal.SIGTTIN)
            ready(server, 1)
        crowd.burst(12)

        assert sorted(crowd.counts.values()) == [4, 4, 4, 4], crowd.counts

        server.send(signal.SIGTTOU)
        gone = int(server.expect(r"web\[4\] pid (\d+) exited")[1])
        crowd.burst(crowd.leave(gone))

        assert len(crowd.counts) == 3
        assert crowd.gap <= EVEN, crowd.counts


@EACH
def test_a_reload_loses_nothing_and_new_workers_share(backend: str, tmp_path: Path) -> None:
    with site(backend, tmp_path) as (server, crowd):
        crowd.burst(16)
        old = set(crowd.counts)
        lost: list[Exception] = []
        answered = 0
        over = threading.Event()

        def load() -> None:
            nonlocal answered
            while not over.is_set():
                try:
                    with crowd.knock() as client:
                        answer(client)
                        answered += 1
                except (OSError, AssertionError) as error:
                    lost.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            server.send(signal.SIGHUP)
            ready(server, 4)
            for pid in old:
                server.rewound().expect(rf"pid {pid} exited with code 0")
        finally:
            over.set()
            thread.join()
        crowd.close()
        crowd.burst(32)

        assert answered
        assert not lost
        assert len(crowd.counts) == 4
        assert not old & set(crowd.counts)
        assert crowd.gap <= EVEN, crowd.counts


def test_nobody_wakes_up_while_nobody_comes(tmp_path: Path) -> None:
    with site("sync", tmp_path) as (_, crowd):
        crowd.come(6)
        pids = list(crowd.counts)
        before = [0]

        def are_asleep() -> bool:
            # Who was told of the last one may still be on its way back to sleep.
            last, before[:] = list(before), [switches(pid) for pid in pids]
            return last == before

        eventually(are_asleep)


def switches(pid: int) -> int:
    """Return how often a process has gone to sleep."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("voluntary_ctxt_switches:")[1].split()[0])


@pytest.mark.parametrize("backend", ["sync", "threads"])
def test_whatever_a_process_writes_over_the_scoreboard_all_go_on(backend: str, tmp_path: Path) -> None:
    with site(backend, tmp_path, workers=3) as (server, crowd):
        server.allow("ended by SIGKILL.*restarting")
        for word in (10**12, -1, 2, 2**63 - 1):
            victim = server.children()[1].pid
            memory = scoreboard_of(victim)
            header, size = 40, os.fstat(memory).st_size
            os.pwrite(memory, struct.pack("=q", word) * ((size - header) // 8), header)
            os.close(memory)

            crowd.come(6)
            os.kill(victim, signal.SIGKILL)
            crowd.leave(victim)
            server.expect(rf"pid {victim} was ended by SIGKILL")
            ready(server, 1)
            crowd.come(6)
        assert server.stop() == 0
