"""A worker that a zygote forks is a child of the master, whole for the C library, and the zygote goes on as it was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forkserve.serving.native import hot

CODE = """
import ctypes, os, sys, threading, time
from forkserve.serving.forkserver import fork_twice

library = ctypes.CDLL(None)
library.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
master = os.getpid()
seen = []
os.register_at_fork(after_in_child=lambda: seen.append("child"), after_in_parent=lambda: seen.append("parent"))
done = [os.pipe() for _ in range(3)]
if os.fork() == 0:
    seen.clear()
    for reading, writing in done:
        gate = os.pipe()
        between = fork_twice()
        if between == 0:
            os.close(gate[1])
            os.read(gate[0], 1)
            ran = []
            thread = threading.Thread(target=ran.append, args=(1,))  # a stack, a lock and memory of the C library
            thread.start()
            thread.join()
            where = library.sched_getcpu()
            said = (os.getppid() == master, seen[-1], ran, len(bytearray(1 << 22)), 0 <= where < os.cpu_count())
            os.write(writing, repr(said).encode())
            os._exit(7)
        assert os.waitpid(between, 0) == (between, 0)
        os.close(gate[1])
        os.close(gate[0])
    os._exit(0 if seen == ["parent"] * 3 else 1)
codes = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4))
for reading, writing in done:
    print(os.read(reading, 200).decode())
print(codes)
"""


@pytest.mark.parametrize("pure", ["", "1"])
def test_the_master_inherits_what_is_forked(pure: str) -> None:
    if not pure and hot is None:
        pytest.skip("there is no compiled part here")
    env = {**os.environ, "FORKSERVE_PURE": pure}
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=30, env=env, check=False)
    lines = ran.stdout.splitlines()
    assert lines == ["(True, 'child', [1], 4194304, True)"] * 3 + ["[0, 7, 7, 7]"], ran.stderr
