"""Files of captured output when a rotation or a reopening fails: no line is lost, and it is said once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logwriter import files as logfiles
from forkserve.logwriter.files import LogFile, log_file
from tests.support.forkserving import eventually

KINDS = {
    "plain": {},
    "sized": {"max_bytes": 20, "backup_count": 2},
    "timed": {"kind": StreamClass.TIMED_FILE, "rotate_when": "S", "rotate_interval": 0, "backup_count": 2},
    "watched": {"kind": StreamClass.WATCHED_FILE},
}
ROTATED = ["sized", "timed"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "_RETRY", 0.05)


class Told(list[str]):
    """What a file has reported."""


def opened(kind: str, path: Path) -> tuple[LogFile, Told]:
    told = Told()
    options = StreamOptions(filename=str(path), **KINDS[kind])  # type: ignore[arg-type]
    return log_file(options, str(path), told.append), told


def write(file: LogFile, text: str) -> None:
    data = text.encode()
    while data:
        data = data[file.write(data) :]


@pytest.mark.parametrize("kind", ROTATED)
@pytest.mark.parametrize("what", ["a link to a file", "a link to a descriptor", "a FIFO"])
def test_only_regular_files_are_rotated(kind: str, what: str, tmp_path: Path) -> None:
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    path = tmp_path / "log"
    if what == "a FIFO":
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    else:
        reading = target
        path.symlink_to(tmp_path / "target" if what == "a link to a file" else f"/proc/self/fd/{target}")
    before = os.lstat(path)
    file, told = opened(kind, path)
    for number in range(10):
        write(file, f"line {number} of ten\n")
    file.close()

    assert os.path.samestat(before, os.lstat(path))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "target"]
    os.lseek(reading, 0, os.SEEK_SET) if reading == target else None
    assert os.read(reading, 10_000).decode() == "".join(f"line {number} of ten\n" for number in range(10))
    assert told == [f"{path} is not rotated: it is not a regular file, or was replaced"]


@pytest.mark.parametrize("kind", ROTATED)
def test_a_rotation_that_is_refused_goes_on_appending_and_is_done_later(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    file, told = opened(kind, path)
    write(file, "line 0 of many\n")

    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        patch.setattr(os, "replace", refuse)
        for number in range(1, 5):
            write(file, f"line {number} of many\n")
    assert path.read_text() == "".join(f"line {number} of many\n" for number in range(5))
    assert told == [f"cannot rotate {path}: Permission denied; lines are appended until it can be"]

    def rotated() -> bool:
        write(file, "more\n")
        return len(list(tmp_path.iterdir())) > 1

    eventually(rotated)
    file.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_reopening_that_fails_keeps_the_old_file_and_is_done_later(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file, told = opened(kind, folder / "log")
    write(file, "one\n")
    os.link(folder / "log", tmp_path / "old")
    shutil.rmtree(folder)
    file.reopen()
    write(file, "two\n")
    write(file, "three\n")

    assert (tmp_path / "old").read_text() == "one\ntwo\nthree\n"
    assert len(told) == 1
    assert "No such file or directory; lines go to the old file" in told[0]
    folder.mkdir()
    eventually(lambda: bool(write(file, "later\n") or (folder / "log").exists()))
    file.close()


def test_without_a_file_lines_go_to_standard_error_until_there_is_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, told = opened("plain", tmp_path / "none" / "log")
    write(file, "one\n")
    write(file, "two\n")

    assert capfd.readouterr().err == "one\ntwo\n"
    assert len(told) == 1
    assert "lines go to standard error until it can be" in told[0]
    (tmp_path / "none").mkdir()
    eventually(lambda: bool(write(file, "later\n") or (tmp_path / "none" / "log").exists()))
    file.close()


def test_a_file_that_somebody_else_has_moved_is_not_renamed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file, told = opened("sized", path)
    write(file, "line 0 of many\n")
    path.rename(tmp_path / "moved")
    write(file, "line 1 of many\n")

    assert path.read_text() == "line 1 of many\n"
    assert (tmp_path / "moved").read_text() == "line 0 of many\n"
    path.rename(tmp_path / "moved too")
    path.write_text("another's\n")
    write(file, "line 2 of many\n")
    file.close()

    assert path.read_text() == "another's\n"
    assert told == [f"{path} is not rotated: it is not a regular file, or was replaced"]
