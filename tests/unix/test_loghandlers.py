"""Log handlers: nothing that a reader, a disk or a caller does makes them raise or wait, and no loss is silent."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.unix import loghandlers
from forkserve.unix.loghandlers import DescriptorHandler, FileHandler, LineHandler, SyslogHandler, reopen
from forkserve.unix.outlet import Outlet
from forkserve.unix.privileges import Credentials, become
from tests.support.forkserving import eventually

NOTE = "lines before this one could not be written"


def say(handler: LineHandler, text: str, *arguments: object) -> None:
    """Handle one line; fails if that takes as long as something that waits."""
    done = threading.Event()

    def call() -> None:
        handler.handle(logging.LogRecord("n", logging.INFO, "", 0, text, arguments, None))
        done.set()

    threading.Thread(target=call, daemon=True).start()
    assert done.wait(20), "a log call waits"


def filled(writing: int) -> int:
    """Fill a pipe or a socket as far as it goes, without leaving it non-blocking; returns how many bytes are in it."""
    os.set_blocking(writing, False)
    sent = 0
    try:
        while True:
            sent += os.write(writing, b"." * 4095 + b"\n")
    except BlockingIOError:
        os.set_blocking(writing, True)
        return sent


def everything(reading: int) -> str:
    """Read what is there."""
    os.set_blocking(reading, False)
    data = b""
    try:
        while part := os.read(reading, 65536):
            data += part
    except BlockingIOError:
        pass
    return data.decode()


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (each.detach() for each in socket.socketpair())
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_full_pipe_costs_lines_and_says_how_many(ends: tuple[int, int]) -> None:
    reading, writing = ends
    handler = DescriptorHandler(writing, patience=0)
    filled(writing)
    for number in range(3):
        say(handler, f"lost {number} " + "x" * 100_000)
    everything(reading)
    say(handler, "next")
    handler.close()

    text = everything(reading)
    assert text.endswith(f"3 {NOTE}\nnext\n")
    assert "lost" not in text
    assert os.get_blocking(writing), "others share the open file"


def test_a_long_line_goes_out_as_far_as_there_is_room_and_its_rest_before_all_others(ends: tuple[int, int]) -> None:
    reading, writing = ends
    handler = DescriptorHandler(writing, patience=0)
    line = "".join(f"{number:07d}\n" for number in range(200_000))
    say(handler, line)
    assert handler.dropped == 0
    first = everything(reading)
    assert line.startswith(first)
    rest = ""
    for _ in range(100):
        say(handler, "next")
        rest += everything(reading)
        if "next" in rest:
            break
    handler.close()

    assert f"{first}{rest}".startswith(f"{line}\n")
    assert rest.endswith("next\n")


def test_short_lines_are_whole_or_not_there(ends: tuple[int, int]) -> None:
    reading, writing = ends
    handler = DescriptorHandler(writing, patience=0)
    for number in range(5000):
        say_now(handler, f"{number:099d}")
    handler.close()
    lines = everything(reading).split("\n")

    assert lines.pop() == ""
    numbers = [int(line) for line in lines if NOTE not in line]
    assert numbers == sorted(set(numbers))
    assert {len(line) for line in lines if NOTE not in line} == {99}


def say_now(handler: LineHandler, text: str) -> None:
    handler.handle(logging.LogRecord("n", logging.INFO, "", 0, text, None, None))


def test_a_worker_waits_a_moment_for_a_reader_that_is_slow() -> None:
    reading, writing = os.pipe()
    handler = DescriptorHandler(writing, patience=20)
    size = filled(writing)
    reader = threading.Thread(target=lambda: [os.read(reading, 4096) for _ in range(size // 4096)])
    reader.start()
    say(handler, "there")
    reader.join()
    handler.close()

    assert everything(reading).endswith("there\n")
    os.close(reading)
    os.close(writing)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_pipe_that_another_user_has_made_is_written_to_as_far_as_there_is_room() -> None:
    reading, writing = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            become(Credentials(65534, 65534, ()))
            outlet = Outlet(writing)
            sent = outlet.write(b"x" * 1_000_000)
            os.write(tell, f"{sent} {outlet.write(b'more')}".encode())
        finally:
            os._exit(0)
    os.close(tell)
    sent, more = os.read(told, 100).decode().split()
    os.waitpid(child, 0)

    assert len(everything(reading)) == int(sent) > 0
    assert int(more) == 0
    assert os.get_blocking(writing)
    for fd in (reading, writing, told):
        os.close(fd)


def test_a_reader_that_has_gone_and_a_descriptor_that_is_closed_raise_nothing() -> None:
    reading, writing = os.pipe()
    handler = DescriptorHandler(writing, patience=0)
    os.close(reading)
    say(handler, "one")
    os.close(writing)
    say(handler, "two")

    assert handler.dropped == 2
    handler.close()


def test_a_daemons_new_descriptor_is_found(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    handler = DescriptorHandler(writing, patience=0)
    say(handler, "before")
    with open(tmp_path / "log", "ab") as file:
        os.dup2(file.fileno(), writing)
    say(handler, "after")

    assert everything(reading) == "before\n"
    assert (tmp_path / "log").read_text() == "after\n"
    handler.close()
    os.close(reading)
    os.close(writing)


def test_lines_of_a_shared_file_follow_each_other(tmp_path: Path) -> None:
    """With `2>log` the open file has one offset for all, and no O_APPEND."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    handler = DescriptorHandler(fd, patience=0)
    for number in range(3):
        say(handler, f"ours {number}")
        os.write(fd, b"theirs\n")
    handler.close()
    os.close(fd)

    assert (tmp_path / "log").read_text() == "ours 0\ntheirs\nours 1\ntheirs\nours 2\ntheirs\n"


def test_a_full_disk_costs_lines() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    handler = DescriptorHandler(fd, patience=0)
    say(handler, "one")
    assert handler.dropped == 1
    handler.close()
    os.close(fd)


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_broken_call_is_a_line_that_says_so(tmp_path: Path) -> None:
    handler = FileHandler(str(tmp_path / "log"), patience=0)
    say(handler, "%d", "text")
    say(handler, "%s %s", 1)
    say(handler, "%s", Broken())
    say(handler, "lone \udc80")
    handler.close()

    assert (tmp_path / "log").read_text().splitlines() == [
        "n: a log call is broken (TypeError): '%d'",
        "n: a log call is broken (TypeError): '%s %s'",
        "n: a log call is broken (RuntimeError): '%s'",
        "lone \\udc80",
    ]


def test_a_folder_that_has_gone_leaves_the_old_file_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loghandlers, "RETRY", 0.05)
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = FileHandler(str(folder / "log"), patience=0)
    os.link(folder / "log", tmp_path / "old")
    say(handler, "one")
    shutil.rmtree(folder)
    reopen()
    say(handler, "two")
    say(handler, "three")
    lines = (tmp_path / "old").read_text().splitlines()
    assert (lines[0], *lines[2:]) == ("one", "two", "three")
    assert "log cannot be opened again: No such file or directory" in lines[1]

    folder.mkdir()

    def is_there() -> bool:
        say(handler, "later")
        return (folder / "log").exists()

    eventually(is_there)
    say(handler, "last")
    handler.close()
    assert (folder / "log").read_text().endswith("last\n")
    assert len([line for line in (tmp_path / "old").read_text().splitlines() if "cannot be opened" in line]) == 1


def test_a_relative_path_is_meant_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    handler = FileHandler("../app.log", patience=0)
    monkeypatch.chdir("/")
    shutil.rmtree(tmp_path / "release")
    reopen()
    say(handler, "one")
    handler.close()

    assert "one" in (tmp_path / "app.log").read_text()


def test_a_fifo_without_a_reader_is_refused_at_once_and_one_that_is_full_costs_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        FileHandler(str(tmp_path / "fifo"), patience=0)
    reading = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    handler = FileHandler(str(tmp_path / "fifo"), patience=0)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    for _ in range(100):
        say_now(handler, "x" * 1000)
    assert handler.dropped > 90
    handler.close()
    os.close(reading)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def test_a_syslog_that_nobody_reads_costs_lines_and_says_how_many(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(folder / "log"))
        handler = SyslogHandler(str(folder / "log"), 3)
        for number in range(2000):
            say_now(handler, f"line {number}")
        lost = handler.dropped
        assert lost > 0
        syslog.settimeout(5)
        for number in range(2000 - lost):
            assert syslog.recv(100) == b"<30>line %d\0" % number
        say(handler, "next")

        assert syslog.recv(200) == b"<30>%d %s\0" % (lost, NOTE.encode())
        assert syslog.recv(100) == b"<30>next\0"
        handler.close()


def test_a_syslog_of_another_kind_is_refused_and_nothing_fails_at_the_exit(folder: Path) -> None:
    handler = SyslogHandler.__new__(SyslogHandler)  # logging keeps it, and closes it at the exit
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as syslog:
        syslog.bind(str(folder / "log"))
        syslog.listen()
        with pytest.raises(OSError, match="wrong type"):
            handler.__init__(str(folder / "log"), 3)  # type: ignore[misc]
        handler.close()


def test_a_syslog_that_is_started_again_is_found_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loghandlers, "RETRY", 0.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(folder / "log"))
        handler = SyslogHandler(str(folder / "log"), 3)
    say(handler, "lost")
    (folder / "log").unlink()
    say(handler, "lost too")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(folder / "log"))
        syslog.settimeout(5)
        say(handler, "found")

        assert NOTE.encode() in syslog.recv(200)
        assert syslog.recv(100) == b"<30>found\0"
    handler.close()


def test_the_errors_of_a_place_are_raised_at_the_start(folder: Path) -> None:
    with pytest.raises(OSError, match="No such file") as raised:
        SyslogHandler(str(folder / "nothing"), 3)
    assert raised.value.errno == errno.ENOENT


def test_a_full_file_is_rotated_and_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "master.log"
    path.write_text("before\n")
    handler = FileHandler(str(path), patience=0.0)
    handler.rotate_at(40, 2)
    for number in range(9):
        say(handler, "line %d of twenty", number)  # 17 bytes
    handler.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["master.log", "master.log.1", "master.log.2"]
    assert path.read_text() == "line 7 of twenty\nline 8 of twenty\n"
    assert (tmp_path / "master.log.2").read_text() == "line 3 of twenty\nline 4 of twenty\n"


def test_a_log_without_backups_begins_again_and_one_that_was_moved_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.log"
    handler = FileHandler(str(path), patience=0.0)
    handler.rotate_at(20, 0)
    for number in range(3):
        say(handler, "line %d of twenty", number)
    assert [each.name for each in tmp_path.iterdir()] == ["master.log"]
    assert path.read_text() == "line 2 of twenty\n"

    path.rename(tmp_path / "moved")
    say(handler, "more")
    say(handler, "and more")
    assert (tmp_path / "moved").read_text() == "line 2 of twenty\nmore\nand more\n"
    handler.close()


def test_a_program_that_is_told_nothing_finds_that_its_file_was_moved(tmp_path: Path) -> None:
    path = tmp_path / "master.log"
    handler = FileHandler(str(path), patience=0.0)
    handler.watch()
    say(handler, "before")
    path.rename(tmp_path / "master.log.1")
    say(handler, "after")
    handler.close()
    assert [(tmp_path / name).read_text() for name in ("master.log.1", "master.log")] == ["before\n", "after\n"]

    reading, writing = os.pipe()
    piped = FileHandler(f"/proc/self/fd/{writing}", patience=0.0)
    piped.watch()
    say(piped, "a pipe is no file that could be moved")
    assert everything(reading).count("\n") == 1
    piped.close()
    os.close(reading)
    os.close(writing)
