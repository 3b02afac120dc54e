"""What the kernel tells of a process: whether somebody holds it, what it has run, which signals it handles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from forkserve.supervision.os.condition import condition_of


def test_a_process_is_held_from_stop_to_continue_and_unknown_when_it_has_gone() -> None:
    code = "import signal; signal.signal(signal.SIGUSR1, print); print('set', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            before = condition_of(child.pid)
            assert before is not None
            assert not before.is_held
            assert before.ran > 0
            assert before.catches(signal.SIGUSR1)
            assert not before.catches(signal.SIGUSR2)

            os.kill(child.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            stopped = condition_of(child.pid)
            assert stopped is not None
            assert stopped.is_held

            os.kill(child.pid, signal.SIGCONT)
            os.waitid(os.P_PID, child.pid, os.WCONTINUED | os.WNOWAIT)
            going = condition_of(child.pid)
            assert going is not None
            assert not going.is_held
        finally:
            child.kill()
    assert condition_of(child.pid) is None
