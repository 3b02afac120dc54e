"""What all tests share: the bytecode of what they and their child processes import."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

sys.dont_write_bytecode = False  # of the test modules, which pytest rewrites; their children go by the environment


def pytest_configure(config: pytest.Config) -> None:
    """Compile what child processes import, once, since a suite starts thousands of interpreters.

    With PYTHONDONTWRITEBYTECODE in the environment each would compile all of it again, which takes three times as long
    as what it is started for.
    """
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist begin after the process that starts them
        for folder in ("forkserve", "tests"):
            compileall.compile_dir(ROOT / folder, quiet=2)
