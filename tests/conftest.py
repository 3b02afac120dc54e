"""What all tests share: signals as at a terminal, and the bytecode of what they and their child processes import."""

from __future__ import annotations

import compileall
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

sys.dont_write_bytecode = False  # of the test modules, which pytest rewrites; their children go by the environment

# A shell that runs the tests in the background, and nohup(1), have their children ignore these.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# On a busy machine an example may take as long as it likes: what must be quick has a bench.
hypothesis.settings.register_profile(
    "forkserve", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("forkserve")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what child processes import, once, since a suite starts thousands of interpreters.

    With PYTHONDONTWRITEBYTECODE in the environment each would compile all of it again, which takes three times as long
    as what it is started for.
    """
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist begin after the process that starts them
        for folder in ("forkserve", "tests"):
            compileall.compile_dir(ROOT / folder, quiet=2)
