"""What tests of the plumbing share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.descriptors import open_fds


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Prove that the test leaves no descriptor open and no child behind."""
    before = open_fds()
    yield
    assert open_fds() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
