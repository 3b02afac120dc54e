"""Starts a program and waits until it runs: what a test wants that is not about the waiting."""

from __future__ import annotations

import os
import select

from forkserve.supervision.os.spawn import Refusal, SpawnError, SpawnSpec, fork, outcome

__all__ = ["spawn"]


def spawn(spec: SpawnSpec) -> int:
    """Return the pid of a program that runs; raises SpawnError with no process left."""
    spawned = fork(spec)
    try:
        ready, _, _ = select.select([spawned.report], [], [], 20)
        assert ready, "no report of the start"
        found = outcome(spawned.report)
    finally:
        os.close(spawned.report)
    if isinstance(found, Refusal):
        os.waitpid(spawned.pid, 0)
        raise SpawnError(found.number, found.stage, found.text)
    assert found
    return spawned.pid
