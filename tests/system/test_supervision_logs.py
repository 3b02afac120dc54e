"""Logs that cannot be written, and what goes on all the same: the master, its workers, and captured output."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from forkserve.supervision.os.proc import children_of
from tests.support.forkserving import Forkserve, eventually, running
from tests.support.serving import COMMAND, bound

SLEEPER = "[watcher:a]\ncmd = sleep 1000\n"


def test_usr1_without_the_folder_of_the_log_leaves_the_master_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "master.log"
    with running("--log-output", str(log), cwd=tmp_path, config=SLEEPER) as server:
        eventually(lambda: log.exists() and "started: sleep" in log.read_text())
        (first,) = server.children()
        os.link(log, tmp_path / "old")
        shutil.rmtree(folder)
        server.send(signal.SIGUSR1)
        eventually(lambda: "cannot be opened again" in (tmp_path / "old").read_text())
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: [each.pid for each in server.children()] not in ([], [first.pid]))
        folder.mkdir()

        def written() -> bool:
            server.send(signal.SIGUSR1)
            return log.exists() and "log files opened" in log.read_text()

        eventually(written)
        assert server.stop() == 0


@pytest.mark.parametrize("option", ["--log-output", "--access-log"])
def test_usr1_without_the_folder_of_the_log_leaves_a_worker_as_it_is(option: str, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (tmp_path / "hello.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
    )
    with bound() as listener:
        fd = listener.fileno()
        worker = f"{COMMAND} --fd $(circus.sockets.web) {option} {folder}/log hello:app"
        config = f"[socket:web]\nfd = {fd}\n[watcher:web]\ncmd = {worker}\ncopy_env = True\n"
        with running(cwd=tmp_path, config=config, pass_fds=(fd,)) as server:
            pid = server.started("web[1]")
            server.expect(r"web\[1\] pid \d+ is ready")
            assert ask(listener) == b"hello"
            shutil.rmtree(folder)
            os.kill(pid, signal.SIGUSR1)
            for _ in range(3):
                assert ask(listener) == b"hello"
            assert [each.pid for each in server.children()] == [pid]


def ask(listener: socket.socket) -> bytes:
    with socket.create_connection(listener.getsockname(), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return client.makefile("rb").read().rpartition(b"\r\n\r\n")[2]


def writer_of(server: Forkserve) -> int:
    """Return the pid of the writer of captured output."""
    for each in children_of(server.pid):
        if b"log writer" in Path(f"/proc/{each.pid}/cmdline").read_bytes():
            return each.pid
    return 0


def test_a_release_that_was_removed_takes_no_output_with_it(tmp_path: Path) -> None:
    """The folder that forkserve was started in goes, and the writer too: the next finds the file where it was meant."""
    release = tmp_path / "release"
    release.mkdir()
    script = tmp_path / "talk.sh"
    script.write_text(f"while read word < {tmp_path}/pipe; do echo $word; done\n")
    os.mkfifo(tmp_path / "pipe")
    config = (
        f"[watcher:a]\ncmd = sh {script}\nworking_dir = /\nstdout_stream.filename = ../app.log\n"
        f"[watcher:b]\ncmd = sh -c 'exec sleep 1000'\nworking_dir = /\nstdout_stream.filename = here.log\n"
    )
    with running(cwd=release, config=config) as server:
        server.expect_all(r"a\[1\] pid \d+ started", r"b\[1\] pid \d+ started")
        eventually(lambda: writer_of(server))
        shutil.rmtree(release)
        first = writer_of(server)
        server.allow("SIGKILL")
        os.kill(first, signal.SIGKILL)
        server.expect("the writer of logs .* has died")
        eventually(lambda: writer_of(server) not in (0, first))
        second = writer_of(server)
        (tmp_path / "pipe").write_text("word\n")
        eventually(lambda: (tmp_path / "app.log").exists() and (tmp_path / "app.log").read_text() == "word\n")

        assert writer_of(server) == second


def test_a_writer_that_dies_again_and_again_is_replaced_ever_later(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=f"{SLEEPER}stdout_stream.filename = {tmp_path}/log\n") as server:
        eventually(lambda: writer_of(server))
        for pattern in (r"another takes its place$", r"another takes its place in 0\.5 s$", r"in 1 s$"):
            os.kill(writer_of(server), signal.SIGKILL)
            server.expect(pattern)
            if not pattern.startswith("in"):
                eventually(lambda: writer_of(server))
        assert server.stop() == 0


def test_a_syslog_that_nobody_reads_stops_no_supervision(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(f"{folder}/log")
        line = ("--log-output", f"syslog://{folder}/log", "--log-level", "debug")
        counter = tmp_path / "count"
        # More lines than its queue takes: each process is two.
        enough = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) // 2 + 10
        config = f"{SLEEPER}[watcher:b]\ncmd = sh -c 'echo >> {counter}'\nmax_retry = -1\nbackoff = 0\n"
        with running(*line, cwd=tmp_path, config=config) as server:
            eventually(lambda: counter.exists() and counter.stat().st_size > enough)
            assert server.stop() == 0


def test_a_long_line_into_a_pipe_that_nobody_reads_stops_no_supervision(tmp_path: Path) -> None:
    long = "x" * 20_000
    config = (
        f"[watcher:a]\ncmd = sleep 1000\n[watcher:b]\ncmd = sh -c 'exit 3' {long}\nbackoff = 0.01\nmax_retry = 30\n"
    )
    reading, writing = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    (tmp_path / "stack.ini").write_text(config)
    line = [sys.executable, "-m", "forkserve", "--control", "none", "-c", "stack.ini"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=writing, stdout=writing, start_new_session=True) as process:
        os.close(writing)
        eventually(lambda: any(each.name == "sleep" for each in children_of(process.pid)))
        process.terminate()
        assert process.wait(20) == 0
    os.close(reading)
