"""A watcher that is started by its first connection, stops when nobody uses it, and waits again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path
from socket import create_connection

from tests.support import commands
from tests.support.forkserving import Forkserve, eventually, running

WORKER = Path(sys.executable).with_name("forkserve-worker")

WORKERS = """
[circus]
check_delay = 0.1
[socket:web]
host = 127.0.0.1
port = 0
[watcher:web]
cmd = {python} {worker} --fd $(circus.sockets.web) app:application
use_sockets = True
copy_env = True
on_demand = True
numprocesses = {processes}
working_dir = {folder}
backoff = 20
{more}
"""

APP = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{word} %d" % os.getpid()]
"""

FOREIGN = """
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    while True:
        sock, _ = listener.accept()
        sock.sendall(b"%d\\n" % os.getpid())
        while sock.recv(100):
            pass
        sock.close()
"""


def _stack(folder: Path, more: str = "", *, processes: int = 1, word: str = "one") -> str:
    (folder / "app.py").write_text(APP.replace("{word}", word))
    return WORKERS.format(python=f"{sys.executable} -u", worker=WORKER, folder=folder, more=more, processes=processes)


def _ctl(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return commands.ctl(folder, "--socket", "c.sock", *argv)


def _state(folder: Path) -> str:
    (watcher,) = json.loads(_ctl(folder, "status", "web", "--json").stdout)
    return str(watcher["state"])


def _waits(server: Forkserve) -> int:
    port = int(server.expect(r"socket web: listening at .*:(\d+)")[1])
    server.expect(r"web: waiting for a connection \(on_demand\)")
    return port


def _get(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_the_first_connection_starts_it_and_idle_stop_stops_it_until_the_next(tmp_path: Path) -> None:
    with running("--control", "c.sock", cwd=tmp_path, config=_stack(tmp_path, "idle_stop = 0.3")) as server:
        port = _waits(server)
        assert (server.children(), _state(tmp_path)) == ([], "waiting")
        shown = _ctl(tmp_path, "status")
        assert "web: waiting for a connection (on_demand)" in shown.stdout
        answers: list[str] = []
        clients = [threading.Thread(target=lambda: answers.append(_get(port))) for _ in range(2)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(20)
        assert [each.split()[0] for each in answers] == ["one", "one"]
        server.expect(r"web: a connection waits, starting 1 process")
        server.expect(r"web: not used for [\d.]+ s \(idle_stop\), stopping 1 process until a connection waits")
        eventually(lambda: not server.children())
        assert _get(port) not in answers
        server.expect(r"web: a connection waits, starting 1 process")


def test_verbs_while_it_waits_start_nothing_and_count(tmp_path: Path) -> None:
    with running("--control", "c.sock", cwd=tmp_path, config=_stack(tmp_path)) as server:
        port = _waits(server)
        (tmp_path / "app.py").write_text(APP.replace("{word}", "two"))
        for verb, answer in (
            (("reload", "web"), "waiting for a connection, which starts the new command"),
            (("incr", "web"), "waiting for a connection"),
            (("restart", "web"), "waiting for a connection"),
            (("stop", "web"), "stopped"),
        ):
            done = _ctl(tmp_path, *verb)
            assert (done.returncode, answer in done.stdout) == (0, True), (verb, done)
        waiting = create_connection(("127.0.0.1", port), 20)  # the queue of a watcher that is stopped holds it
        assert (server.children(), _state(tmp_path)) == ([], "stopped")
        waiting.close()
        assert _ctl(tmp_path, "start", "web").returncode == 0
        assert _ctl(tmp_path, "upgrade").returncode == 0
        assert _get(port).startswith("two ")
        server.expect(r"web: a connection waits, starting 2 processes")


def test_one_that_dies_at_its_start_backs_off_and_wakes_nobody_again_and_again(tmp_path: Path) -> None:
    stack = _stack(tmp_path)
    (tmp_path / "app.py").write_text("import os\nos._exit(7)\n")
    with running("--control", "c.sock", cwd=tmp_path, config=stack) as server:
        port = _waits(server)
        with create_connection(("127.0.0.1", port), 20):
            server.expect(r"web: a connection waits")
            server.expect(r"web\[1\] pid \d+ exited with code 7 .*; restart in 20 s")
            before = _switches(server)
            assert _ctl(tmp_path, "status").returncode == 0
            assert _switches(server) - before < 200
            assert sum("a connection waits" in line for line in server.lines) == 1


def _switches(server: Forkserve) -> int:
    """Return how often the master has gone to sleep."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_another_program_is_in_use_while_somebody_is_connected(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(FOREIGN)
    config = "[circus]\ncheck_delay = 0.1\n" + "".join(
        f"[socket:{name}]\nhost = 127.0.0.1\nport = 0\n"
        f"[watcher:{name}]\ncmd = {sys.executable} -u program.py $(circus.sockets.{name})\nuse_sockets = True\n"
        "on_demand = True\nidle_stop = 0.3\nready_after = 0\n"
        for name in ("web", "other")
    )
    with running(cwd=tmp_path, config=config) as server:
        port, other = (int(server.first(rf"socket {name}: listening at .*:(\d+)")[1]) for name in ("web", "other"))
        server.expect_all(*(rf"{name}: waiting for a connection \(on_demand\)" for name in ("web", "other")))
        with create_connection(("127.0.0.1", port), 20) as sock:
            pid = int(sock.recv(100))
            for _ in range(2):  # while this one is idle for as long, and again, and stops
                with create_connection(("127.0.0.1", other), 20) as brief:
                    assert brief.recv(100)
                server.expect(r"other: not used for .* stopping 1 process")
                eventually(lambda: len(server.children()) == 1)  # it takes nobody while it ends
            assert "web: not used for" not in server.transcript()
        server.expect(r"web: not used for .* stopping 1 process")
        eventually(lambda: not server.children())
        with create_connection(("127.0.0.1", port), 20) as sock:
            assert int(sock.recv(100)) != pid


def test_a_watcher_that_is_told_not_to_wait_starts(tmp_path: Path) -> None:
    with running("--control", "c.sock", cwd=tmp_path, config=_stack(tmp_path)) as server:
        _waits(server)
        config = tmp_path / "stack.ini"
        config.write_text(config.read_text().replace("on_demand = True", "on_demand = False"))
        assert _ctl(tmp_path, "reloadconfig").returncode == 0
        server.expect(r"web\[1\] pid \d+ started")
