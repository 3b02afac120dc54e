"""The private folder of notify sockets: who may write there, and what is left of it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.notify import notify
from forkserve.unix.notifyfolder import NotifyFolder, places
from forkserve.unix.privileges import Credentials, become
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def told_as(uid: int, address: str) -> bool:
    """Tell whether a process of a user can write to an address."""
    pid = os.fork()
    if pid == 0:
        told = False
        try:
            become(Credentials(uid, uid, ()))
            told = notify("READY=1", {"NOTIFY_SOCKET": address})
        finally:
            os._exit(not told)
    return os.waitpid(pid, 0)[1] == 0


def test_each_process_has_an_address_and_nobody_else_gets_in(place: Path) -> None:
    folder = NotifyFolder([str(place)])
    one, two = folder.open(), folder.open(Credentials(os.geteuid(), 1, ()))

    assert mode(folder.prefix) == 0o700
    assert mode(one.address) == mode(two.address) == 0o600
    assert notify("READY=1", {"NOTIFY_SOCKET": two.address})
    assert (list(one.take()), list(two.take())) == ([], [{"READY": "1"}])
    one.close()
    two.close()
    folder.close()
    assert list(place.iterdir()) == []


@AS_ROOT
def test_a_process_of_another_user_can_write_to_its_own_and_to_no_other() -> None:
    folder = NotifyFolder(["/tmp"])
    ours = folder.open()
    assert not told_as(NOBODY, ours.address)
    theirs, others = folder.open(Credentials(NOBODY, NOBODY, ())), folder.open(Credentials(1, 1, ()))

    assert mode(folder.prefix) == 0o711
    assert told_as(NOBODY, theirs.address)
    assert not told_as(NOBODY, ours.address)
    assert not told_as(NOBODY, others.address)
    for each in (ours, theirs, others):
        each.close()
    folder.close()


@AS_ROOT
def test_a_process_that_changes_its_user_can_write_to_a_name_that_nobody_else_knows() -> None:
    folder = NotifyFolder(["/tmp"])
    made = folder.open(changes_user=True)

    assert told_as(NOBODY, made.address)
    assert list(made.take()) == [{"READY": "1"}]
    assert made.address not in Path("/proc/net/unix").read_text()
    assert folder.prefix in Path("/proc/net/unix").read_text()
    made.close()
    assert os.listdir(folder.prefix) == []
    folder.close()


def test_what_a_killed_master_has_left_goes_and_what_is_in_use_stays(place: Path) -> None:
    script = f"from forkserve.unix.notifyfolder import NotifyFolder; f = NotifyFolder([{str(place)!r}]); f.open()"
    dead = spawn(SpawnSpec(argv=(sys.executable, "-c", f"{script}; import os; os._exit(1)"), env=dict(os.environ)))
    os.waitpid(dead, 0)
    left = set(place.iterdir())
    assert len(left) == 1

    used = NotifyFolder([str(place)])
    other = NotifyFolder([str(place)])

    assert {f"{each}/" for each in place.iterdir()} == {used.prefix, other.prefix}
    used.close()
    other.close()


def test_a_folder_that_a_cleaner_has_removed_is_made_again(place: Path) -> None:
    folder = NotifyFolder([str(place)])
    first = folder.open()
    shutil.rmtree(folder.prefix)
    first.close()
    second = folder.open()

    assert notify("READY=1", {"NOTIFY_SOCKET": second.address})
    NotifyFolder([str(place)]).close()
    assert list(second.take()) == [{"READY": "1"}]
    second.close()
    folder.close()


def test_a_link_in_place_of_the_folder_is_not_followed(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / "here").mkdir()
    folder = NotifyFolder([str(place / "here")])
    os.rmdir(folder.prefix)
    os.symlink(place / "elsewhere", folder.prefix.rstrip("/"))

    with pytest.raises(PermissionError):
        folder.open()
    os.unlink(folder.prefix.rstrip("/"))
    folder.close()
    assert list((place / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("among", [[], ["/proc/nowhere"], ["/tmp/" + "x" * 90]])
def test_where_no_folder_can_be_had_the_addresses_are_abstract(
    among: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = NotifyFolder(among)
    made = folder.open()

    assert made.address.startswith(folder.prefix)
    assert made.address.startswith("@")
    assert notify("READY=1", {"NOTIFY_SOCKET": made.address})
    assert list(made.take()) == [{"READY": "1"}]
    made.close()
    folder.close()
    assert "open to all users" in caplog.text


def test_places_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "relative")
    assert all(place.startswith("/") for place in places())
