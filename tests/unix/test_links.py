"""Links that a log file may lie behind, and those that it may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logs import handler_for
from forkserve.logwriter.files import log_file
from forkserve.unix.links import open_appending

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make links of another user")
STRANGER = 65534


def appended(path: Path | str, data: bytes = b"line\n") -> None:
    fd = open_appending(str(path))
    os.write(fd, data)
    os.close(fd)


def strange(link: Path, target: Path | str) -> Path:
    """Make a link that belongs to another user."""
    link.symlink_to(target)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    return link


def test_files_are_made_and_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        appended(tmp_path / "app.log")

    assert (tmp_path / "app.log").read_bytes() == b"line\nline\n"


def test_links_of_our_own_are_followed_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "disk" / "logs").mkdir(parents=True)
    (tmp_path / "var").symlink_to("disk/../disk")
    (tmp_path / "app.log").symlink_to(tmp_path / "var" / "logs" / "real.log")
    appended(tmp_path / "app.log")

    assert (tmp_path / "disk" / "logs" / "real.log").read_bytes() == b"line\n"


@AS_ROOT
@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing yet"])
def test_a_link_of_another_user_is_not_followed(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "precious"
    if there:
        target.write_text("kept")
    strange(tmp_path / "app.log", target)

    with pytest.raises(PermissionError, match="a link that another user has made"):
        open_appending(str(tmp_path / "app.log"))
    assert not there or target.read_text() == "kept"
    assert target.exists() is there


@AS_ROOT
def test_a_folder_that_is_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    strange(tmp_path / "logs", tmp_path / "etc")

    with pytest.raises(PermissionError):
        open_appending(str(tmp_path / "logs" / "app.log"))
    assert list((tmp_path / "etc").iterdir()) == []


@AS_ROOT
def test_neither_watchers_nor_our_own_log_go_through_such_a_link(tmp_path: Path) -> None:
    link = strange(tmp_path / "app.log", tmp_path / "precious")

    for kind in (StreamClass.FILE, StreamClass.WATCHED_FILE, StreamClass.TIMED_FILE):
        told: list[str] = []
        log_file(StreamOptions(kind=kind, filename=str(link)), str(link), told.append).write(b"")
        assert "a link that another user has made" in told[0]
    with pytest.raises(Exception, match="a link that another user has made"):
        handler_for(str(link), "--log-output")
    assert not (tmp_path / "precious").exists()


def test_standard_output_by_its_name_is_a_link_of_the_kernel(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    appended(f"/proc/self/fd/{writing}")
    appended(f"/dev/fd/{writing}")
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"line\nline\n"


def test_a_circle_of_links_and_a_folder_that_is_a_file_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="Too many levels"):
        open_appending(str(tmp_path / "a"))
    with pytest.raises(NotADirectoryError):
        open_appending(str(tmp_path / "file" / "x"))
    with pytest.raises(IsADirectoryError):
        open_appending(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        open_appending(str(tmp_path / "none" / "x"))
