"""What tests of the plumbing share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from forkserve.supervision.os.loop import Loop
from forkserve.supervision.os.proc import children_of
from tests.support.descriptors import open_fds


def _children() -> frozenset[int]:
    return frozenset(each.pid for each in children_of(os.getpid()))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Prove that the test leaves no descriptor open and no child behind."""
    before, children = open_fds(), _children()
    yield
    assert open_fds() == before
    assert _children() <= children, "what another test has left, orphans that this process adopts, is not ours to tell"


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Return a loop; prove that the test leaves no descriptor open."""
    before = open_fds()
    loop = Loop()
    yield loop
    loop.close()
    assert open_fds() == before
