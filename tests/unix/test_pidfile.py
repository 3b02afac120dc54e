"""A pid file names one living master and goes with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkserve.errors import ConfigError, ExitCode
from forkserve.supervision.os.pidfile import PidFile


def test_it_holds_the_pid_while_we_live(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    text = path.read_text()
    file.close()

    assert text == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pid", [1, os.getppid()], ids=["init", "parent"])
def test_a_living_process_is_not_replaced(tmp_path: Path, pid: int) -> None:
    (tmp_path / "pid").write_text(f"{pid}\n")
    with pytest.raises(ConfigError, match=f"process {pid} is alive") as raised:
        PidFile(str(tmp_path / "pid"))

    assert raised.value.exit_code is ExitCode.CANNOT_BIND


@pytest.mark.parametrize("text", ["", "rubbish", "0", "-1", "999999999", "99999999999999999999", "ours"])
def test_a_stale_file_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(str(os.getpid()) if text == "ours" else text)
    PidFile(str(tmp_path / "pid")).close()

    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    file = PidFile(str(tmp_path / "pid"))
    (tmp_path / "pid").write_text("1\n")
    file.close()

    assert (tmp_path / "pid").read_text() == "1\n"


def test_a_place_that_cannot_be_written_is_named_with_its_cure() -> None:
    with pytest.raises(ConfigError, match=r"^pidfile /proc/forkserve\.pid: cannot write it: .*; name a file"):
        PidFile("/proc/forkserve.pid")
