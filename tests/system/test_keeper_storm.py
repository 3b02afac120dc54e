"""Masters are killed again and again under load, at any moment: while they start, take over, reload, or do nothing."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from tests.support.load import Load
from tests.support.stacks import DOG, put_dog, web
from tests.system import test_keeper as keeper
from tests.system.test_keeper import READY, TAKEN, call, master

pytestmark = pytest.mark.slow

place, port, stack = keeper.place, keeper.port, keeper.stack

CONFIG = f"{keeper.CONFIG}{web(0, name='pre', sock='own', own=True, more='preload = True')}{DOG}"
NOTES = """
with open("dog.log", "a") as log:
    print(os.getpid(), number, file=log)
"""
KILLS = 20


@pytest.mark.timeout(600)
def test_masters_are_killed_again_and_again_under_load(place: Path, port: int, stack: contextlib.ExitStack) -> None:
    put_dog(place, NOTES, pause=0.05)
    rng = random.Random(20)
    server = stack.enter_context(master(place, CONFIG, port))
    server.allow(".*")
    server.expect_all(*READY, r"pre\[2\] pid \d+ is ready", r"dog\[1\] pid \d+ is ready")
    dog = server.rewound().expect(r"dog\[1\] pid (\d+) is ready")[1]
    with Load(("127.0.0.1", port), pause=0.005) as load:
        for number in range(KILLS):
            if number % 4 == 1:
                _begin(place, "reload")
            select.select((), (), (), rng.uniform(0, 0.6))
            keeper.kill(server)
            _killed_on_its_way(place, rng.uniform(0.05, 1.0))
            server = stack.enter_context(master(place, CONFIG, port))
            server.allow(".*")
            server.expect(TAKEN)
            load.more(10)
        call(place, "reload")
    assert (load.lost, load.refused) == ([], 0)
    assert server.stop() == 0
    assert dog in (place / "dog.log").read_text()


def _begin(place: Path, verb: str) -> None:
    with contextlib.suppress(ControlError, OSError), ControlClient(place / "ctl.sock", timeout=20) as client:
        client.call(verb, waiting=False)


def _killed_on_its_way(place: Path, after: float) -> None:
    """Start a master and kill it so many seconds later, wherever it is."""
    words = [sys.executable, "-m", "forkserve", "-c", "stack.ini", "--control", str(place / "ctl.sock")]
    with subprocess.Popen(words, cwd=place, env={**os.environ, "XDG_RUNTIME_DIR": str(place)}) as starting:
        select.select((), (), (), after)
        starting.send_signal(signal.SIGKILL)
