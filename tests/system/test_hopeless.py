"""What can never mend is told once, and not tried again: forkserve ends with the worker's code, its port closed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running
from tests.support.serving import PATIENCE

SITE = 'def app(environ, start):\n    start("200 OK", [("Content-Length", "0")])\n    return []\n'
FORKSERVE = [sys.executable, "-m", "forkserve", "--control", "none", "-b", "127.0.0.1:0"]
HOPELESS = [
    (["nosuch:app"], 3, "no module named 'nosuch'"),
    (["-k", "getvent", "site_h:app"], 2, "there is no backend 'getvent'; did you mean 'gevent'?"),
    (["-k", "gunicorn-asgi", "site_h:app"], 78, "which backend gunicorn-asgi does not serve"),
    (["--certfile", "nosuch.pem", "site_h:app"], 2, "nosuch.pem: No such file or directory"),
    (["--access-log", "nosuch/log", "site_h:app"], 2, "nosuch/log: No such file or directory"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_h.py").write_text(SITE)
    return tmp_path


def refused(server: Forkserve) -> bool:
    """Tell whether nobody listens any more where it did."""
    found = server.first(r"socket web: listening at https?://(.*):(\d+)")
    with socket.socket() as client:
        return client.connect_ex((found[1], int(found[2]))) != 0


@pytest.mark.parametrize(("words", "code", "said"), HOPELESS, ids=lambda value: str(value))
def test_workers_that_can_never_start_say_so_once(words: list[str], code: int, said: str, folder: Path) -> None:
    with running("-w", "3", "-b", "127.0.0.1:0", *words, cwd=folder) as server:
        server.allow("given up", "giving up", "SIGKILL")
        assert server.wait() == code
        assert sum(said in line for line in server.lines) == 1, server.transcript()
        assert sum("web[1]" in line and " started: " in line for line in server.lines) == 1
        assert sum("given up: fix it" in line for line in server.lines) == 1
        assert refused(server)


def test_workers_without_a_socket_of_the_master_say_so_once(folder: Path) -> None:
    config = "[watcher:web]\ncmd = forkserve-worker -b 127.0.0.1:0 nosuch:app\nnumprocesses = 2\ncopy_env = True\n"
    with running(cwd=folder, config=config) as server:
        server.allow("given up", "giving up", "SIGKILL")
        assert server.wait() == 3
        assert sum("no module named 'nosuch'" in line for line in server.lines) == 1, server.transcript()


def test_several_workers_end_with_the_first(folder: Path) -> None:
    with running("-w", "4", "-b", "127.0.0.1:0", "nosuch:app", cwd=folder) as server:
        server.allow("given up", "giving up", "SIGKILL")
        assert server.wait() == 3
        assert sum(" started: " in line for line in server.lines) <= 4
        assert sum("given up: fix it" in line for line in server.lines) == 1
        assert not any("restart in" in line for line in server.lines)


def test_others_run_on_and_a_start_tries_again(folder: Path) -> None:
    config = """
[socket:web]
port = 0
[watcher:other]
cmd = sleep 1000
ready_after = 0.1
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) late_h:app
copy_env = True
numprocesses = 2
"""
    with running(cwd=folder, config=config) as server:
        server.allow("given up", "SIGKILL")
        other = server.started("other[1]")
        server.expect(r"web\[\d\] pid \d+ exited with code 3 .* given up: fix it, then `forkservectl start web`")
        eventually(lambda: [each.pid for each in server.children()] == [other])

        (folder / "late_h.py").write_text(SITE)
        server.send(signal.SIGHUP)
        server.expect_all(r"web\[1\]: serving late_h:app", r"web\[2\]: serving late_h:app")


def test_a_reload_that_stops_the_only_other_watcher_for_a_while_is_not_the_end(folder: Path) -> None:
    """Its process ends after others have asked whether anything is left to run."""
    (folder / "slow").write_text("""
trap 'touch told; until test -e go; do sleep 0.05; done; exit 0' TERM
touch set
while :; do sleep 0.05; done
""")
    config = """
[watcher:other]
cmd = sh slow
[watcher:web]
cmd = forkserve-worker -b 127.0.0.1:0 late_h:app
copy_env = True
"""
    with running(cwd=folder, config=config) as server:
        server.allow("given up", "SIGKILL")
        other = server.started("other[1]")
        eventually((folder / "set").exists)
        server.expect(r"web\[1\] pid \d+ exited with code 3 .* given up: fix it, then `forkservectl start web`")
        server.send(signal.SIGHUP)
        server.expect(r"web\[1\] pid \d+ exited with code 3")
        eventually((folder / "told").exists)
        (folder / "go").touch()
        server.expect(rf"other\[1\] pid {other} exited with code 0")
        assert server.started("other[1]") != other


def test_what_has_served_is_tried_again(folder: Path) -> None:
    """A deploy that is half done when a worker crashes is no reason to give up."""
    with running("-b", "127.0.0.1:0", "site_h:app", cwd=folder) as server:
        server.allow("SIGKILL", "given up")
        pid = server.started("web[1]")
        server.expect("is ready after")
        (folder / "site_h.py").rename(folder / "away")
        os.kill(pid, signal.SIGKILL)
        server.expect(r"web\[1\] pid \d+ exited with code 3 .*; restart in 0.5 s \(1 of 5\)")
        (folder / "away").rename(folder / "site_h.py")
        server.expect("serving site_h:app")


def test_max_retry_minus_one_tries_for_ever(folder: Path) -> None:
    config = "[watcher:web]\ncmd = forkserve-worker -b 127.0.0.1:0 late_h:app\ncopy_env = True\n"
    config += "max_retry = -1\nbackoff = 0.1\n"
    with running(cwd=folder, config=config) as server:
        server.expect(r"exited with code 3 .*; restart in 0.1 s")
        (folder / "late_h.py").write_text(SITE)
        server.expect("serving late_h:app")


def test_codes_of_other_programs_mean_nothing(tmp_path: Path) -> None:
    config = '[watcher:a]\ncmd = sh -c "exit 3"\nmax_retry = 2\nbackoff = 0.01\n'
    with running(cwd=tmp_path, config=config) as server:
        server.allow("given up", "giving up")
        server.expect(r"exited with code 3 .*; restart in 0.01 s \(1 of 2\)")
        assert server.wait() == 70


@pytest.mark.parametrize(("words", "code", "said"), HOPELESS[:3], ids=lambda value: str(value))
def test_a_daemon_that_can_never_serve_says_so_before_the_command_ends(
    words: list[str], code: int, said: str, folder: Path
) -> None:
    done = subprocess.run(
        [*FORKSERVE, "-D", *words], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count(said) == 1
    assert "WARNING forkserve.master: -D without --log-output" in done.stderr


def test_a_daemon_lets_go_of_the_terminal_once_it_serves(folder: Path) -> None:
    loud = 'import sys\nprint("loading", file=sys.stderr)\nprint("x" * 100000)\n'
    (folder / "site_h.py").write_text(loud + SITE)
    words = ["-D", "--pid", "pid", "--log-file", "log", "-w", "2", "site_h:app"]
    # run() waits for the end of the pipe: nobody may keep it.
    done = subprocess.run(
        [*FORKSERVE, *words], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    master = int((folder / "pid").read_text())
    try:
        assert done.returncode == 0
        assert "loading" in done.stderr
        assert "WARNING" not in done.stderr
        log = (folder / "log").read_text()
        assert len(re.findall("serving site_h:app", log)) == 2, "it has settled when its workers serve"
        worker = int(re.findall(r"web\[1\] pid (\d+) started", log)[0])
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(re.findall("serving site_h:app", (folder / "log").read_text())) == 3)
    finally:
        os.kill(master, signal.SIGTERM)
    eventually(lambda: not (folder / "pid").exists())
