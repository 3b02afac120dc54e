"""Who is late is stuck, or has an excuse."""

from __future__ import annotations

import signal
import subprocess
import sys

from forkserve.serving.engine.running import processor_time
from forkserve.serving.engine.stall import APART, ENOUGH, StallDetector
from tests.support.forkserving import eventually

NOW, TURN = 1000.0, 999.0


def test_who_sleeps_is_stuck_in_this_turn() -> None:
    detector = StallDetector(lambda pid: None)

    assert detector.is_stuck(3, 1, TURN, NOW)
    assert detector.stuck == {3: TURN}


def test_who_gets_no_processor_is_excused_for_a_while() -> None:
    detector = StallDetector(lambda pid: 5.0)

    assert not detector.is_stuck(3, 1, TURN, NOW)
    assert not detector.is_stuck(3, 1, TURN, NOW + APART)
    assert not detector.is_stuck(3, 1, TURN, NOW + 2 * APART)
    assert detector.is_stuck(3, 1, TURN, NOW + ENOUGH)
    assert not detector.is_stuck(3, 1, TURN + 0.1, NOW + ENOUGH + 0.01)


def test_who_has_had_the_processor_is_stuck() -> None:
    used = iter([5.0, 5.0 + 2 * APART])
    detector = StallDetector(lambda pid: next(used))

    assert not detector.is_stuck(3, 1, TURN, NOW)
    assert not detector.is_stuck(3, 1, TURN, NOW + 0.001)
    assert detector.is_stuck(3, 1, TURN, NOW + 2 * APART)


def test_a_process_that_sleeps_or_is_gone_wants_no_processor() -> None:
    busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        eventually(lambda: (processor_time(busy.pid) or 0) > 0.01)
        busy.send_signal(signal.SIGSTOP)
        eventually(lambda: processor_time(busy.pid) is None)
    finally:
        busy.kill()
        busy.wait()
    assert processor_time(busy.pid) is None
