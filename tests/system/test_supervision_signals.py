"""Signals to the master mean what users of Unicorn and nginx expect; a reload never takes down what serves."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from tests.support.forkserving import Forkserve, eventually, running

ACCEPT_LOOP = Path(__file__).parent.parent.parent / "examples" / "accept_loop.py"
WEB = f"""
[socket:web]
port = 0
[watcher:web]
cmd = {sys.executable} -S {ACCEPT_LOOP} $(circus.sockets.web)
numprocesses = 2
ready_after = 0.2
[watcher:single]
cmd = sleep 1000
"""

READY = """
import os, signal, socket, sys
if os.path.exists("broken"):
    sys.exit("this code is broken")
signal.signal(signal.SIGUSR1, lambda *_: os.write(2, b"told to reopen\\n"))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as master:
    master.sendto(b"READY=1\\nSTATUS=fine", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""
"""A worker that speaks sd_notify(3)."""


def _address(server: Forkserve) -> tuple[str, int]:
    found = server.expect(r"socket web: listening at (.*):(\d+)")
    return found[1], int(found[2])


def _ask(address: tuple[str, int]) -> str:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.makefile().read().rpartition("\n\n")[2]


def test_hup_replaces_processes_one_by_one_the_new_one_first(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        address = _address(server)
        old = {server.started("web[1]"), server.started("web[2]")}
        old.add(server.started("single[1]"))
        server.send(signal.SIGHUP)
        server.expect(r"configuration read again: nothing has changed")
        server.expect_all(
            r"web\[1\] pid \d+ was ended by SIGTERM",
            r"single\[1\] pid \d+ was ended by SIGTERM",
            r"web: 2 processes replaced \(generation 2\)",
        )
        server.rewound().expect(r"configuration read again: nothing has changed")
        first, second, single = server.started("web[1]"), server.started("web[2]"), server.started("single[1]")

        eventually(lambda: {each.pid for each in server.children()} == {first, second, single})
        assert "hello from process" in _ask(address)
        assert not {first, second} & old


def test_hup_with_a_file_that_runs_nothing_changes_nothing(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        server.allow("reload refused")
        address = _address(server)
        before = {server.started(name) for name in ("web[1]", "web[2]", "single[1]")}
        for text in ("", WEB.replace("watcher:", "program:"), "[socket:web]\nport = 0\n"):
            (tmp_path / "stack.ini").write_text(text)
            server.send(signal.SIGHUP)
            server.expect(r"ERROR .* reload refused, everything stays as it is: stack.ini")
        eventually(lambda: {each.pid for each in server.children()} == before)
        assert "hello" in _ask(address)


def test_hup_with_a_broken_configuration_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        server.allow("reload refused")
        address = _address(server)
        before = {server.started(name) for name in ("web[1]", "web[2]", "single[1]")}
        (tmp_path / "stack.ini").write_text(WEB + "numprocesses = x\n[watcher:none]\nnumprocesses = -1\n")
        server.send(signal.SIGHUP)
        server.expect(r"ERROR .* reload refused, everything stays as it is: stack.ini:.* expected an integer, got 'x'")

        eventually(lambda: {each.pid for each in server.children()} == before)
        assert "hello" in _ask(address)
        assert len([line for line in server.lines if "ERROR" in line]) == 1


def test_hup_with_code_that_fails_keeps_the_old_processes_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "ready.py").write_text(READY)
    config = f"[watcher:web]\ncmd = {sys.executable} -S ready.py\nnumprocesses = 2\ncopy_env = True\n"
    with running(cwd=tmp_path, config=config) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        server.allow("reload of web failed")
        before = {each.pid for each in server.children()}
        (tmp_path / "broken").touch()
        server.send(signal.SIGHUP)
        server.expect(r"reload of web failed, 2 processes kept as before: web\[1\] pid \d+ exited with code 1")

        eventually(lambda: {each.pid for each in server.children()} == before)
        (tmp_path / "broken").unlink()
        server.send(signal.SIGHUP)
        server.expect(r"web: 2 processes replaced")


def test_hup_with_a_command_that_fails_keeps_the_old_one_until_a_better_comes(tmp_path: Path) -> None:
    # a program that is missing ends before it counts as ready, on a busy machine too
    config = WEB.replace("ready_after = 0.2", "ready_after = 1.5\nsome = thing").replace("numprocesses = 2\n", "")
    with running(cwd=tmp_path, config=config) as server:
        server.allow("reload of web failed")
        _address(server)
        before = {server.started("web[1]")}
        (tmp_path / "stack.ini").write_text(config.replace(str(ACCEPT_LOOP), "missing.py"))
        server.send(signal.SIGHUP)
        server.expect(r"web changes \(cmd\)")
        server.expect("reload of web failed, 1 process kept as before")
        assert before <= {each.pid for each in server.children()}
        (tmp_path / "missing.py").write_text(ACCEPT_LOOP.read_text())
        server.send(signal.SIGHUP)
        server.expect(r"web changes \(cmd\)")

        server.expect(r"web: 1 process replaced")


def test_hup_during_a_start_that_fails_tries_the_mended_code_at_once(tmp_path: Path) -> None:
    (tmp_path / "ready.py").write_text(READY)
    (tmp_path / "broken").touch()
    config = (
        f"[watcher:web]\ncmd = {sys.executable} -S ready.py\nnumprocesses = 2\nbackoff = 1000\nbackoff_max = 1000\n"
    )
    with running(cwd=tmp_path, config=config) as server:
        server.expect_all(r"web\[1\] .*restart in 1000 s", r"web\[2\] .*restart in 1000 s")
        (tmp_path / "broken").unlink()
        server.send(signal.SIGHUP)

        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")


def test_hup_takes_over_what_has_changed_and_touches_nothing_else(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        address = _address(server)
        web = {server.started("web[1]"), server.started("web[2]")}
        single = server.started("single[1]")
        changed = WEB.replace("numprocesses = 2", "numprocesses = 3\nsend_hup = True").replace(
            "[watcher:single]", "[watcher:added]"
        )
        (tmp_path / "stack.ini").write_text(changed + "env = ignored\n[env:added]\nA = b\n")
        server.allow("ended by SIGHUP")
        server.send(signal.SIGHUP)
        server.expect(r"configuration read again: added is new; single goes; web changes \(numprocesses, send_hup\)")
        server.expect_all(
            r"web\[3\] pid \d+ started", r"added\[1\] pid \d+ started", rf"single\[1\] pid {single} was ended"
        )

        assert "hello" in _ask(address)
        assert web


def test_hup_binds_a_changed_socket_anew_and_moves_its_readers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    config = WEB.replace("port = 0", f"path = {tmp_path}/a/one.sock")
    config = config.replace(str(ACCEPT_LOOP), "unix.py")
    (tmp_path / "unix.py").write_text(ACCEPT_LOOP.read_text().replace("AF_INET", "AF_UNIX"))
    with running(cwd=tmp_path, config=config) as server:
        server.expect("listening at unix:.*one.sock")
        server.expect_all(r"web\[1\] pid \d+ started", r"web\[2\] pid \d+ started")
        (tmp_path / "stack.ini").write_text(config.replace("one.sock", "two.sock"))
        server.send(signal.SIGHUP)
        server.expect("socket web is rebound")
        server.expect(r"web: 2 processes replaced")
        eventually(lambda: os.listdir(tmp_path / "a") == ["two.sock"])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/a/two.sock")
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

            assert b"hello" in client.makefile("rb").read()
    assert os.listdir(tmp_path / "a") == []


def test_ttin_and_ttou_run_one_more_and_one_less(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        server.expect(r"web\[2\] pid \d+ started")
        server.send(signal.SIGTTIN)
        third = server.started("web[3]")
        server.send(signal.SIGTTOU)
        server.expect(rf"web\[3\] pid {third} was ended by SIGTERM")

        eventually(lambda: len(server.children()) == 3)


def test_winch_stops_the_web_watchers_keeps_their_sockets_and_hup_brings_them_back(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        address = _address(server)
        server.expect_all(*(rf"{name} pid \d+ started" for name in (r"web\[1\]", r"web\[2\]", r"single\[1\]")))
        server.send(signal.SIGWINCH)
        server.expect_all(r"web\[1\] pid \d+ was ended by SIGTERM", r"web\[2\] pid \d+ was ended by SIGTERM")
        eventually(lambda: len(server.children()) == 1)
        with socket.create_connection(address, timeout=10) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            server.send(signal.SIGHUP)

            assert "hello" in waiting.makefile().read()


def test_usr1_reopens_log_files_and_is_forwarded_to_the_workers_that_said_ready(tmp_path: Path) -> None:
    (tmp_path / "ready.py").write_text(READY)
    (tmp_path / "talk.sh").write_text("while read word < pipe; do echo $word; done")
    os.mkfifo(tmp_path / "pipe")
    config = f"""
[watcher:talk]
cmd = sh talk.sh
stdout_stream.filename = {tmp_path}/talk.log
[watcher:web]
cmd = {sys.executable} -S ready.py
"""
    with running(cwd=tmp_path, config=config) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        (tmp_path / "pipe").write_text("one\n")
        eventually(lambda: (tmp_path / "talk.log").exists() and (tmp_path / "talk.log").read_text() == "one\n")
        (tmp_path / "talk.log").rename(tmp_path / "talk.log.1")
        server.send(signal.SIGUSR1)
        server.expect_all("log files reopened", "told to reopen")
        (tmp_path / "pipe").write_text("two\n")

        eventually(lambda: (tmp_path / "talk.log").exists() and (tmp_path / "talk.log").read_text() == "two\n")


def test_systemd_is_told_and_its_socket_is_not_handed_on(tmp_path: Path) -> None:
    (tmp_path / "ready.py").write_text(READY)
    config = f"[watcher:web]\ncmd = {sys.executable} -S ready.py\ncopy_env = True\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        with running(cwd=tmp_path, config=config, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
            assert systemd.recv(100) == b"READY=1"
            server.expect(r"web\[1\] pid \d+ is ready")
            server.stop()

            assert systemd.recv(100) == b"STOPPING=1"


def test_the_master_takes_the_place_of_systemd_for_its_children_only(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        with running(
            "--fd-socket", f"web=fd://{fd}", "--", "sh", "-c", 'echo "$LISTEN_FDS $LISTEN_FDNAMES"; exec sleep 1000',
            cwd=tmp_path, pass_fds=(fd,),
        ) as server:  # fmt: skip
            server.expect("^1 web$")


def test_a_single_process_without_a_socket_is_stopped_before_its_successor_starts(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        old = server.started("single[1]")
        (tmp_path / "stack.ini").write_text(WEB.replace("sleep 1000", "sleep 2000"))
        server.send(signal.SIGHUP)
        server.expect(r"single changes \(cmd\)")
        server.expect(rf"single\[1\] pid {old} was ended by SIGTERM")

        server.expect(r"single\[1\] pid \d+ started: sleep 2000")


def test_a_stop_in_the_middle_of_a_reload_ends_all_and_exits_with_0(tmp_path: Path) -> None:
    config = WEB.replace("ready_after = 0.2", "ready_after = 1000")
    with running(cwd=tmp_path, config=config) as server:
        server.expect(r"web\[2\] pid \d+ started")
        server.send(signal.SIGHUP)
        server.expect(r"web: replacing 2 processes one by one")

        assert server.stop() == 0


def test_reloads_that_come_while_one_runs_become_one_more(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config=WEB) as server:
        server.expect(r"web\[2\] pid \d+ started")
        server.send(signal.SIGHUP)
        server.expect(r"web: replacing 2 processes one by one \(generation 2\)")
        for _ in range(50):
            server.send(signal.SIGHUP)
        server.expect(r"web: 2 processes replaced \(generation 2\)")
        server.expect(r"web: 2 processes replaced \(generation 3\)")

        assert server.stop() == 0
        assert "generation 4" not in server.transcript()


def test_hup_makes_a_unix_socket_again_that_a_cleaner_has_removed(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    seed = (
        "import socket, sys; s = socket.socket(fileno=int(sys.argv[1]))\n"
        "while True:\n    c, _ = s.accept(); c.sendall(b'hello'); c.close()\n"
    )
    (tmp_path / "seed.py").write_text(seed)
    config = f"[socket:web]\npath = {path}\n[watcher:web]\ncmd = {sys.executable} -S seed.py $(circus.sockets.web)\n"
    with running(cwd=tmp_path, config=f"{config}ready_after = 0.1\n") as server:
        first = server.started("web[1]")
        eventually(path.exists)
        path.unlink()
        server.send(signal.SIGHUP)
        server.expect("socket web is rebound")
        server.started("web[1]")
        server.expect(rf"web\[1\] pid {first} was ended by SIGTERM")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            assert client.recv(100) == b"hello"
