"""A short storm, the same each time: every kind of deed once, and what must hold in a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storm.course import blow
from tests.storm.deeds import DEEDS


@pytest.mark.timeout(240)
def test_a_short_storm_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    blow(tmp_path, 20, count=len(DEEDS))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_longer_storm(tmp_path: Path) -> None:
    blow(tmp_path, 21, 120)
