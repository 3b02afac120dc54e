"""Nothing above a folder is opened through it, whichever way the kernel offers."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.serving.static import Folders
from forkserve.unix.beneath import open_beneath, openat2, walk

Open = Callable[[int, str, int], int]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A folder with a file at `a/b/file`, beside a secret."""
    (tmp_path / "secret").write_bytes(b"secret")
    below = tmp_path / "www" / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"fine")
    fd = os.open(tmp_path / "www", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


each_way = pytest.mark.parametrize("way", [open_beneath, openat2, walk], ids=lambda way: way.__name__)


@each_way
def test_what_lies_below_is_opened(way: Open, folder: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert content(way(folder, "a/b/file", os.O_RDONLY)) == b"fine"
    with pytest.raises(FileNotFoundError):
        way(folder, "a/b/nothing", os.O_RDONLY)
    assert len(os.listdir("/proc/self/fd")) == before


@each_way
@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/passwd", "link", "up/secret"])
def test_what_does_not_is_not(way: Open, path: str, folder: int, tmp_path: Path) -> None:
    (tmp_path / "www" / "link").symlink_to("../secret")
    (tmp_path / "www" / "up").symlink_to(tmp_path)
    with pytest.raises((OSError, ValueError)) as raised:
        way(folder, path, os.O_RDONLY)
    assert getattr(raised.value, "errno", None) not in (errno.ENOENT, errno.EBADF)


SWAP = """
import ctypes, os, sys
os.chdir(sys.argv[1])
os.symlink("..", "aside")
exchange = ctypes.CDLL(None).renameat2
print("begun", flush=True)
while not exchange(-100, b"www/a", -100, b"aside", 2):
    pass
"""


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(folder: int, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_bytes(b"secret")
    folders = Folders([("/", str(tmp_path / "www"))])
    seen = set()
    with subprocess.Popen([sys.executable, "-c", SWAP, str(tmp_path)], stdout=subprocess.PIPE) as swapping:
        assert swapping.stdout is not None
        swapping.stdout.readline()
        for _ in range(20_000):
            found = folders.find("GET", "/a/b/file", lambda _: None)
            if found is not None and found.file is not None:
                with contextlib.closing(found.file):
                    seen.add(found.file.read())
        swapping.kill()
    assert seen == {b"fine"}


def test_links_are_followed_within_the_folder_and_to_no_dotfile(folder: int, tmp_path: Path) -> None:
    www = tmp_path / "www"
    (www / ".env").write_bytes(b"secret")
    (www / ".git").mkdir()
    (www / ".git" / "config").write_bytes(b"secret")
    (www / "..2026").mkdir()
    (www / "..2026" / "page").write_bytes(b"fine")
    links = {
        "relative": "a/b/file", "absolute": str(www / "a" / "b" / "file"), "page": "..data/page", "..data": "..2026",
        "env": ".env", "git": ".git", "out": "../secret",
    }  # fmt: skip
    for name, target in links.items():
        (www / name).symlink_to(target)
    folders = Folders([("/", str(www))])

    def served(path: str) -> bool:
        found = folders.find("GET", path, lambda _: None)
        if found is not None and found.file is not None:
            found.file.close()
        return found is not None

    assert [name for name in ("/relative", "/absolute", "/page") if not served(name)] == []
    assert [name for name in ("/env", "/git/config", "/out", "/.env", "/..data/page") if served(name)] == []
