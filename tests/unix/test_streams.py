"""The output of processes reaches its place in whole lines, and nothing that is slow holds up the master."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.config.model import StreamClass, StreamOptions
from forkserve.logwriter.client import Streams
from forkserve.supervision.os.spawn import SpawnSpec
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def streams(nothing_left: None) -> Iterator[Streams]:
    streams = Streams()
    yield streams
    end(streams)


def end(streams: Streams) -> None:
    """Close, and wait for the writer to have written everything."""
    pid = streams.close()
    if pid is not None:
        assert os.waitpid(pid, 0)[1] == 0


def run(streams: Streams, script: str, out: StreamOptions | None, err: StreamOptions | None = None) -> None:
    """Run a shell script to its end with its output captured."""
    pid = begin(streams, script, out, err)
    os.waitpid(pid, 0)
    streams.forget(pid)


def begin(
    streams: Streams,
    script: str,
    out: StreamOptions | None,
    err: StreamOptions | None = None,
    *,
    place: Path | None = None,
) -> int:
    """Start a shell script with its output captured; returns the pid."""
    output = streams.open(out, err)
    spec = SpawnSpec(
        argv=("/bin/sh", "-c", script),
        env={"PATH": "/usr/bin:/bin"},
        stdout=output.stdout_fd,
        stderr=output.stderr_fd,
        cwd=None if place is None else str(place),
    )
    pid = spawn(spec)
    streams.attach(output, name="web[3]", pid=pid)
    return pid


def file(path: Path, **options: object) -> StreamOptions:
    return StreamOptions(filename=str(path), **options)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a file in another process's hands has what it should."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        select.select((), (), (), 0.01)


def test_without_streams_there_is_no_writer(streams: Streams) -> None:
    output = streams.open(None, None)

    assert (output.stdout_fd, output.stderr_fd, streams.pid) == (None, None, None)


def test_lines_of_both_outputs_go_to_their_files(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo out; echo err >&2; printf unended", file(tmp_path / "out"), file(tmp_path / "err", prefix=True))
    end(streams)

    assert (tmp_path / "out").read_text() == "out\nunended"
    assert (tmp_path / "err").read_text() == "web[3] | err\n"


def test_what_waits_for_the_end_of_its_line_is_written_and_mixes_with_no_other(
    streams: Streams, tmp_path: Path
) -> None:
    out, fancy = tmp_path / "out", tmp_path / "fancy"
    asks = "printf 'name? '; read name < fifo; echo $name; printf tail"
    os.mkfifo(tmp_path / "fifo")
    output = streams.open(file(out), file(fancy, prefix=True))
    pid = os.fork()
    if pid == 0:
        os.dup2(output.stdout_fd or 1, 1)
        os.dup2(output.stderr_fd or 2, 2)
        os.chdir(tmp_path)
        os.execvp("sh", ["sh", "-c", f"printf half >&2; {asks}; echo whole >&2"])
    streams.attach(output, name="web[1]", pid=pid)
    eventually(lambda: out.exists() and out.read_text() == "name? ")
    eventually(lambda: fancy.exists() and fancy.read_text() == "web[1] | half")

    run(streams, "echo other; echo more >&2", file(out), file(fancy, prefix=True))
    eventually(lambda: out.read_text() == "name? \nother\n")
    (tmp_path / "fifo").write_text("me\n")
    os.waitpid(pid, 0)
    streams.forget(pid)
    end(streams)
    assert out.read_text() == "name? \nother\nme\ntail"
    assert fancy.read_text() == "web[1] | half\nweb[3] | more\nweb[1] | whole\n"


NAMED = StreamOptions(kind=StreamClass.STDOUT, prefix=True)
FANCY = StreamOptions(kind=StreamClass.FANCY_STDOUT, time_format="at", color="green")
AS_IT_IS = StreamOptions(kind=StreamClass.STDOUT, as_it_is=True)


class Stdout:
    """The standard output of the test, that of the writer, too."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd, self._text = capfd, ""

    def text(self) -> str:
        self._text += self._capfd.readouterr().out
        return self._text

    def becomes(self, text: str) -> None:
        eventually(lambda: self.text() == text)


def test_a_coloured_line_is_ended_where_its_process_has_not_ended_it(
    streams: Streams, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stdout = Stdout(capfd)
    os.mkfifo(tmp_path / "fifo")
    pid = begin(streams, "printf half; read line < fifo; printf more", FANCY, place=tmp_path)
    stdout.becomes(half := f"\033[32mat [{pid}] | half\033[0m\n")
    (tmp_path / "fifo").write_text("\n")
    os.waitpid(pid, 0)
    streams.forget(pid)
    stdout.becomes(half + f"\033[32mat [{pid}] | more\033[0m\n")


@pytest.mark.parametrize("other", [NAMED, AS_IT_IS])
def test_what_stands_on_a_stdout_without_its_end_is_continued_by_no_other(
    streams: Streams, tmp_path: Path, capfd: pytest.CaptureFixture[str], other: StreamOptions
) -> None:
    stdout = Stdout(capfd)
    os.mkfifo(tmp_path / "fifo")
    pid = begin(streams, "printf half; read line < fifo; printf last", NAMED, place=tmp_path)
    stdout.becomes("web[3] | half")
    streams.reopen()
    run(streams, "echo next", other)
    stdout.becomes(now := "web[3] | half\n" + ("web[3] | " if other.prefix else "") + "next\n")
    (tmp_path / "fifo").write_text("\n")
    os.waitpid(pid, 0)
    streams.forget(pid)
    stdout.becomes(now + "web[3] | last\n")


def test_a_line_with_a_name_is_ended_when_its_process_ends(
    streams: Streams, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stdout = Stdout(capfd)
    os.mkfifo(tmp_path / "fifo")
    pid = begin(streams, "printf half; read line < fifo", NAMED, place=tmp_path)
    stdout.becomes("web[3] | half")
    (tmp_path / "fifo").write_text("\n")
    os.waitpid(pid, 0)
    streams.forget(pid)
    stdout.becomes("web[3] | half\n")


@contextlib.contextmanager
def as_output(*fds: int, target: int) -> Iterator[None]:
    """Let standard streams of the test, which the writer will share, be another file meanwhile."""
    before = [os.dup(fd) for fd in fds]
    try:
        for fd in fds:
            os.dup2(target, fd)
        yield
    finally:
        for fd, saved in zip(fds, before, strict=True):
            os.dup2(saved, fd)
            os.close(saved)


@pytest.fixture
def one_output(streams: Streams) -> Iterator[tuple[int, int]]:
    """Let stdout and stderr of the writer be one small pipe, as with `2>&1 | less`; returns both ends."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with as_output(1, 2, target=writing):
        streams.restart()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def comes(fd: int, text: str) -> None:
    """Expect a text from a pipe, in any number of pieces."""
    received = b""
    while len(received) < len(text):
        assert select.select((fd,), (), (), 20)[0], received
        received += os.read(fd, len(text) - len(received))
    assert received.decode() == text


TO_STDERR = StreamOptions(kind=StreamClass.STDERR, prefix=True)


def test_a_line_begun_on_stdout_is_ended_before_one_on_stderr_where_both_are_one(
    streams: Streams, tmp_path: Path, one_output: tuple[int, int]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    pid = begin(streams, "printf half; read line < fifo; printf last", NAMED, place=tmp_path)
    comes(one_output[0], "web[3] | half")
    run(streams, "echo next >&2", None, TO_STDERR)
    comes(one_output[0], "\nweb[3] | next\n")
    (tmp_path / "fifo").write_text("\n")
    os.waitpid(pid, 0)
    streams.forget(pid)
    comes(one_output[0], "web[3] | last\n")


def test_lines_on_both_outputs_and_lines_of_others_do_not_mix_in_a_slow_pipe(
    streams: Streams, one_output: tuple[int, int]
) -> None:
    reading, writing = one_output
    script = "import sys; [print('{}' * (20 + 7 * n % 150)) for n in range(3000)]"
    pids = [
        begin(streams, f'exec {sys.executable} -c "{script.format("a")}"', NAMED),
        begin(streams, f'exec {sys.executable} -c "{script.format("b")}" >&2', None, TO_STDERR),
        spawn(SpawnSpec(argv=("/bin/sh", "-c", "for i in `seq 300`; do echo log; done"), env={}, stdout=writing)),
    ]
    received, lines = bytearray(), 0
    while lines < 6300:
        assert select.select((reading,), (), (), 20)[0], received[-500:]
        data = os.read(reading, 1000)
        received, lines = received + data, lines + data.count(b"\n")
    for pid in pids:
        os.waitpid(pid, 0)
        streams.forget(pid)
    whole = re.compile(rb"web\[3\] \| (a+|b+)|log")
    assert not [each for each in received.split(b"\n")[:-1] if not whole.fullmatch(each)]


def test_a_file_that_is_the_stdout_of_the_master_is_written_as_that(streams: Streams, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, as_output(1, target=log.fileno()):
        streams.restart()
    for text, out in (("one", NAMED), ("two", file(Path("/dev/stdout"))), ("three", NAMED)):
        run(streams, f"echo {text}", out)
        eventually(lambda text=text: (tmp_path / "log").read_text().endswith(f"{text}\n"))  # type: ignore[misc]
    assert (tmp_path / "log").read_text() == "web[3] | one\ntwo\nweb[3] | three\n"


def test_lines_of_many_processes_never_mix(streams: Streams, tmp_path: Path) -> None:
    log = file(tmp_path / "log")
    outputs = []
    for letter in "abcd":
        script = f"for i in $(seq 200); do printf {letter}; printf {letter}{letter}; echo {letter}; done"
        output = streams.open(log, None)
        pid = spawn(SpawnSpec(argv=("/bin/sh", "-c", script), env={"PATH": "/usr/bin:/bin"}, stdout=output.stdout_fd))
        streams.attach(output, name=letter, pid=pid)
        outputs.append(pid)
    for pid in outputs:
        os.waitpid(pid, 0)
        streams.forget(pid)
    end(streams)

    lines = (tmp_path / "log").read_text().splitlines()
    assert {letter * 4: lines.count(letter * 4) for letter in "abcd"} == dict.fromkeys(
        ["aaaa", "bbbb", "cccc", "dddd"], 200
    )
    assert len(lines) == 800


def test_the_time_and_the_pid_stand_before_each_line(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo $$", file(tmp_path / "log", time_format="%Y-%m-%d"))
    end(streams)

    match = re.fullmatch(r"\d{4}-\d\d-\d\d \[(\d+)\] \| (\d+)\n", (tmp_path / "log").read_text())
    assert match
    assert match[1] == match[2]


def test_a_file_is_rotated_by_size_at_the_end_of_a_line(streams: Streams, tmp_path: Path) -> None:
    run(streams, "for i in $(seq 10 39); do echo line-$i; done", file(tmp_path / "log", max_bytes=80, backup_count=2))
    end(streams)

    found = {path.name: path.read_text().splitlines() for path in tmp_path.iterdir()}
    assert found == {
        "log": [f"line-{i}" for i in range(30, 40)],
        "log.1": [f"line-{i}" for i in range(20, 30)],
        "log.2": [f"line-{i}" for i in range(10, 20)],
    }


def test_a_file_is_rotated_by_time_and_old_ones_go(streams: Streams, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("of an earlier run\n")
    os.utime(path, (0, 0))
    for year in (2001, 2002):
        (tmp_path / f"log.{year}-01-01_00-00-00").write_text("old\n")
    timed = file(path, kind=StreamClass.TIMED_FILE, rotate_when="S", rotate_interval=3600, backup_count=1, utc=True)
    run(streams, "echo now", timed)
    end(streams)

    assert path.read_text() == "now\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.2002-01-01_00-00-00"]


def test_a_watched_file_is_followed_when_it_is_moved(streams: Streams, tmp_path: Path) -> None:
    path = tmp_path / "log"
    watched = file(path, kind=StreamClass.WATCHED_FILE)
    run(streams, "echo one", watched)
    eventually(lambda: path.exists() and path.read_text() == "one\n")
    path.rename(tmp_path / "log.old")
    run(streams, "echo two", watched)
    end(streams)

    assert path.read_text() == "two\n"
    assert (tmp_path / "log.old").read_text() == "one\n"


def test_files_are_opened_anew_on_demand(streams: Streams, tmp_path: Path) -> None:
    path = tmp_path / "log"
    run(streams, "echo one", file(path))
    eventually(lambda: path.exists() and path.read_text() == "one\n")
    path.rename(tmp_path / "log.old")
    streams.reopen()
    run(streams, "echo two", file(path))
    end(streams)

    assert path.read_text() == "two\n"


def test_a_full_disk_is_reported_once_and_holds_nobody_up(streams: Streams) -> None:
    """A process that writes ten times what may wait for the sink comes to its end."""
    run(streams, "yes 0123456789 | head -c 10000000", StreamOptions(filename="/dev/full"))

    assert select.select([streams], [], [], 10)[0]
    assert streams.take() == ["cannot write to /dev/full: No space left on device; the oldest lines will be dropped"]


def test_a_reader_that_is_stuck_costs_the_oldest_lines_and_a_line_that_counts_them(
    streams: Streams, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    run(streams, "seq 1000000", file(fifo))
    pid = streams.close()
    os.set_blocking(reading, True)
    with open(reading) as stuck:
        lines = stuck.read().splitlines()
    assert pid is not None
    os.waitpid(pid, 0)

    dropped = [re.fullmatch(r"forkserve: (\d+) lines dropped here: .*", line) for line in lines]
    counts = [int(match[1]) for match in dropped if match]
    assert counts
    assert len(lines) - len(counts) + sum(counts) == 1000000
    assert lines[-1] == "1000000"


def test_a_process_that_writes_faster_than_the_disk_waits_and_loses_nothing(streams: Streams, tmp_path: Path) -> None:
    run(streams, "seq 2000000", file(tmp_path / "log", prefix=True))
    end(streams)

    with (tmp_path / "log").open() as lines:
        assert sum(1 for line in lines if line.startswith("web[3] | ")) == 2000000


def test_a_file_that_cannot_be_made_is_reported(streams: Streams) -> None:
    run(streams, "echo lost", StreamOptions(filename="/no/such/folder/log"))

    assert select.select([streams], [], [], 10)[0]
    assert "/no/such/folder/log: No such file or directory" in streams.take()[0]


def test_a_dead_writer_is_replaced_and_nothing_is_lost(streams: Streams, tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = streams.open(file(path), None)
    reading, writing = os.pipe()
    spec = SpawnSpec(
        argv=("/bin/sh", "-c", "echo one; read x; echo two"), env={}, stdin=reading, stdout=output.stdout_fd
    )
    pid = spawn(spec)
    os.close(reading)
    streams.attach(output, name="web[1]", pid=pid)
    eventually(lambda: path.exists() and path.read_text() == "one\n")
    writer = streams.pid
    assert writer is not None
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.write(writing, b"\n")
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    streams.restart()
    streams.forget(pid)
    end(streams)

    assert path.read_text() == "one\ntwo\n"


def test_a_writer_that_is_stopped_does_not_stop_the_master(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo first", file(tmp_path / "log"))
    writer = streams.pid
    assert writer is not None
    os.kill(writer, signal.SIGSTOP)
    for _ in range(100):
        streams.reopen()
    for number in range(40):
        run(streams, f"echo {number}", file(tmp_path / "log"))
    os.kill(writer, signal.SIGCONT)
    end(streams)

    assert (tmp_path / "log").read_text().split() == ["first", *map(str, range(40))]


def test_signals_meant_for_all_do_not_end_the_writer(streams: Streams, tmp_path: Path) -> None:
    run(streams, "echo one", file(tmp_path / "log"))
    writer = streams.pid
    assert writer is not None
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(writer, signum)
    run(streams, "echo two", file(tmp_path / "log"))
    end(streams)

    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_the_writer_has_no_descriptor_of_the_master(streams: Streams, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        run(streams, "true", file(tmp_path / "log"))
        inode = f"socket:[{os.fstat(server.fileno()).st_ino}]"
        held = []
        for fd in os.listdir(f"/proc/{streams.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed since: a log file that was written and let go
                held.append(os.readlink(f"/proc/{streams.pid}/fd/{fd}"))

    assert held
    assert inode not in held


def test_what_could_not_be_spawned_leaves_no_pipe(streams: Streams, tmp_path: Path) -> None:
    streams.abandon(streams.open(file(tmp_path / "log"), file(tmp_path / "log")))


def test_lines_go_to_syslog_with_severity_and_name(streams: Streams, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        options = StreamOptions(kind=StreamClass.SYSLOG, address=str(tmp_path / "log"), facility="local0")
        run(streams, "echo out; echo err >&2", options, options)
        found = sorted(log.recv(1000).decode() for _ in range(2))

    assert re.fullmatch(r"<132>web\[3\]\[\d+\]: err", found[0])
    assert re.fullmatch(r"<134>web\[3\]\[\d+\]: out", found[1])


MASTER = """
import os, signal, sys
from forkserve.config.model import StreamOptions
from forkserve.supervision.os.spawn import SpawnSpec
from tests.support.spawning import spawn
from forkserve.logwriter.client import Streams
streams = Streams()
output = streams.open(StreamOptions(filename=sys.argv[1]), None)
argv = ("/bin/sh", "-c", "read x; echo late")
pid = spawn(SpawnSpec(argv=argv, env={}, stdin=0, stdout=output.stdout_fd, death_signal=None))
streams.attach(output, name="web[1]", pid=pid)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_said_after_the_master_was_killed_is_written_and_the_writer_ends(tmp_path: Path) -> None:
    to_child, from_all = os.pipe(), os.pipe()
    argv = (sys.executable, "-c", MASTER, str(tmp_path / "log"))
    master = spawn(SpawnSpec(argv=argv, env=os.environ, stdin=to_child[0], stdout=from_all[1]))
    os.close(to_child[0])
    os.close(from_all[1])
    assert os.waitpid(master, 0)[1] == signal.SIGKILL
    os.write(to_child[1], b"\n")
    with open(from_all[0], "rb") as everybody:
        assert everybody.read() == b""
    os.close(to_child[1])

    assert (tmp_path / "log").read_text() == "late\n"
