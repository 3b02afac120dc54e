"""Finds the programs of other projects that some tests need: nginx, redis-server, wrk.

A missing one skips its tests and says so; with FORKSERVE_TESTS_REQUIRE_ALL=1 in the environment it fails them, so that
continuous integration never passes by skipping.
"""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["program"]


def program(name: str) -> str:
    """Return the path of a program; skips or fails the test when it is not on this machine."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found:
        return found
    reason = f"{name} is not installed"
    if os.environ.get("FORKSERVE_TESTS_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
