"""What processes use, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from forkserve.control.client import ControlClient
from forkserve.control.usage import Meter
from tests.support.forkserving import eventually, running

BUSY = """
import os, threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
if os.fork() == 0:
    time.sleep(1000)
print("ready", flush=True)
while True:
    pass
"""


def test_a_process_is_measured_as_psutil_does_it() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            meter = Meter()
            first = meter.measure(process.pid, closely=True)
            eventually(lambda: sum(psutil.Process(process.pid).cpu_times()[:2]) > 0.3)
            later = meter.measure(process.pid)
            theirs = psutil.Process(process.pid)

            assert first is not None
            assert later is not None
            assert (first.threads, first.fds) == (2, theirs.num_fds())
            assert first.children is not None and len(first.children) == 1
            assert abs((first.pss or 0) - theirs.memory_full_info().pss) < 2**22
            assert (later.fds, later.children) == (None, None)
            assert later.cpu > 0
            assert abs(later.memory - theirs.memory_info().rss) < 2**22
        finally:
            os.killpg(process.pid, 9)


def test_a_process_that_has_gone_is_not_measured() -> None:
    pid = subprocess.Popen(["true"])
    pid.wait()

    assert Meter().measure(pid.pid) is None


def test_a_status_costs_the_master_little_for_each_process(tmp_path: Path) -> None:
    """CPU time, so a busy machine makes no difference; a walk over all processes for each took 40 times as much."""
    processes, questions = 100, 20
    path = tmp_path / "c.sock"
    config = f"[watcher:a]\ncmd = sleep 1000\nnumprocesses = {processes}\nready_after = 0.1\n"
    with running("--control", str(path), cwd=tmp_path, config=config) as server:
        eventually(lambda: len(server.children()) == processes)
        with ControlClient(path) as client:
            before = sum(psutil.Process(server.pid).cpu_times()[:2])
            answers = [client.call("status") for _ in range(questions)]
            used = sum(psutil.Process(server.pid).cpu_times()[:2]) - before

    assert {len(answer[0]["processes"]) for answer in answers} == {processes}
    assert all(each["memory"] > 0 for each in answers[-1][0]["processes"])
    assert used / questions / processes < 0.0005
