"""Short storms with a fixed seed: each kind of deed once, and what must hold in a long one.

Deeds that move sockets about, and deeds that make a change fail, have a storm each; a long one mixes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storm.course import blow
from tests.storm.deeds import DEEDS

SOCKETS = ["rename", "move", "rebind", "remove", "remove_readers", "sweep", "remove_helper", "resize", "hang_up"]
FAULTS = [name for name in DEEDS if name not in SOCKETS]


@pytest.mark.timeout(240)
def test_a_squall(tmp_path: Path) -> None:
    blow(tmp_path, 22, count=3, only=["rename", "move", "kill_workers"])


@pytest.mark.timeout(240)
@pytest.mark.slow  # a storm is as long as its dice want it: `make storm` is its own command
@pytest.mark.parametrize("deeds", [SOCKETS, FAULTS], ids=["sockets", "faults"])
def test_a_short_storm_loses_nothing_and_leaves_nothing(deeds: list[str], tmp_path: Path) -> None:
    blow(tmp_path, 22, count=len(deeds), only=deeds)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_longer_storm(tmp_path: Path) -> None:
    blow(tmp_path, 21, 120)
