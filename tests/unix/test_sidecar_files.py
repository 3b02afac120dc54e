"""The socket files of a program beside the master are removed at its end, and no file of another."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from forkserve.errors import BindError
from forkserve.sidecars.circus.sockets import bound
from forkserve.supervision.auxiliaries.sidecar import Sidecar, SocketFiles
from forkserve.unix.socketfiles import remove_dead
from tests.support.supervision import ManualLoop

pytestmark = pytest.mark.usefixtures("nothing_left")

US = (os.geteuid(),)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        yield made
        made.destroy(linger=0)


def left_at(path: Path) -> Path:
    """Return the path of a socket that a killed program has left."""
    with listening(path):
        pass
    return path


def test_only_a_dead_socket_of_ours_is_removed(tmp_path: Path) -> None:
    dead, foreign = left_at(tmp_path / "dead"), left_at(tmp_path / "foreign")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(foreign)

    remove_dead(str(foreign), owners=(os.geteuid() + 1,))
    with listening(tmp_path / "living"):
        for name in ("dead", "file", "link", "living", "nosuch/nosuch"):
            remove_dead(str(tmp_path / name), US)

    assert not dead.exists()
    assert {each.name for each in tmp_path.iterdir()} == {"foreign", "file", "link", "living"}


def test_what_a_killed_program_has_left_is_removed_when_it_is_not_started_again(tmp_path: Path) -> None:
    loop = ManualLoop()
    files = SocketFiles((str(tmp_path / "left"),), US)
    sidecar = Sidecar("x", ("sleep", "1000"), loop, lambda _event: None, files=files)
    sidecar.start()
    pid = sidecar.pid
    assert pid is not None
    left_at(tmp_path / "left")
    sidecar.close()
    os.waitpid(pid, 0)
    for report in tuple(loop.watched):
        loop.ready(report)
    assert (tmp_path / "left").exists(), "while the program runs, the file is its own"

    sidecar.reaped(pid)
    assert not (tmp_path / "left").exists()


def test_a_program_that_is_not_there_at_the_end_leaves_nothing_even_after_an_upgrade(tmp_path: Path) -> None:
    files = SocketFiles((str(left_at(tmp_path / "left")),), US)
    data = Sidecar("x", ("sleep", "1000"), ManualLoop(), lambda _event: None, files=files).to_data()

    Sidecar.from_data(data, ManualLoop(), lambda _event: None).close()
    assert not (tmp_path / "left").exists()


def test_an_endpoint_takes_a_dead_file_over_and_removes_its_own(tmp_path: Path, context: zmq.Context[Any]) -> None:
    path = left_at(tmp_path / "socket")
    with contextlib.ExitStack() as files, bound(context, zmq.ROUTER, f"ipc://{path}", files):
        assert path.stat().st_mode & 0o777 == 0o600
        files.close()
        assert not path.exists()

    with contextlib.ExitStack() as files, bound(context, zmq.ROUTER, f"ipc://{path}-2", files):
        os.unlink(f"{path}-2")
        left_at(Path(f"{path}-2"))
        files.close()
        assert Path(f"{path}-2").exists(), "another program has made a file there meanwhile"


def test_an_endpoint_takes_no_file_of_another_program(tmp_path: Path, context: zmq.Context[Any]) -> None:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as files:
        with listening(path), pytest.raises(BindError, match="another program listens there; stop it, or choose"):
            bound(context, zmq.ROUTER, f"ipc://{path}", files)
        path.unlink()
        path.write_text("kept")
        with pytest.raises(BindError, match="a file that is no socket is there"):
            bound(context, zmq.ROUTER, f"ipc://{path}", files)
    assert path.read_text() == "kept"


def test_an_address_without_a_file_is_bound_as_it_is(context: zmq.Context[Any]) -> None:
    for address in (f"ipc://@forkserve-test-{os.getpid()}", "tcp://127.0.0.1:*"):
        with contextlib.ExitStack() as files, bound(context, zmq.XPUB, address, files) as made:
            assert made.getsockopt(zmq.LAST_ENDPOINT)
