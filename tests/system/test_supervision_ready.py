"""Readiness: whose message counts, who is waited for, and that nobody else is heard."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, descriptors, eventually, running

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as another user")
CONNECT = "import os; from socket import *; s = socket(AF_UNIX, SOCK_DGRAM); s.connect(os.environ['NOTIFY_SOCKET'])"
TELL = f"{CONNECT}; s.send(b'READY=1')"
HELPER = shlex.join([sys.executable, "-S", "-c", TELL])
"""What systemd-notify does: a process of a script that says the word and has gone."""


def address_of(pid: int) -> str:
    """Return the NOTIFY_SOCKET of a process."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return next(each.partition("=")[2] for each in variables if each.startswith("NOTIFY_SOCKET="))


def folder_of(server: Forkserve, pid: int) -> Path:
    folder = Path(address_of(pid)).parent
    assert folder.is_dir(), server.transcript()
    return folder


def test_the_word_of_a_helper_counts_although_the_master_hears_it_when_it_has_gone(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(f"kill -STOP $PPID\n{HELPER}\necho said\nexec sleep 1000\n")
    config = "[watcher:a]\ncmd = sh run.sh\nready_after = 1000\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("held the loop")  # it may be stopped within a callback
        server.expect("^said$")
        server.send(signal.SIGCONT)
        server.expect(r"a\[1\] pid \d+ is ready")


def test_a_helper_in_a_session_of_another_process_counts(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(f"setsid {HELPER}\nexec sleep 1000\n")
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh run.sh\nready_after = 1000\n") as server:
        server.expect(r"a\[1\] pid \d+ is ready")


def test_nobody_is_killed_because_its_predecessor_was_ready_by_its_own_word(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(f"[ -e once ] || {HELPER}\ntouch once\necho up\nexec sleep 1000\n")
    config = "[watcher:a]\ncmd = sh run.sh\nready_timeout = 0.3\nready_after = 0.2\n"
    with running("--log-level", "debug", cwd=tmp_path, config=config) as server:
        server.allow("ended by SIGKILL.*restarting")
        first = server.started("a[1]")
        server.expect_all("is ready", "^up$")
        os.kill(first, signal.SIGKILL)
        second = server.started("a[1]")
        server.expect(rf"pid {second} is ready")

        assert [each.pid for each in server.children()] == [second]
        assert not any("not ready within" in line for line in server.lines)


def test_the_folder_is_private_and_each_socket_lives_as_long_as_its_process(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\nnumprocesses = 3\n") as server:
        server.allow("ended by SIGKILL.*restarting")
        pids = [server.started(f"a[{wid}]") for wid in (1, 2, 3)]
        folder = folder_of(server, pids[0])
        before = descriptors(server.pid)
        assert len({address_of(pid) for pid in pids}) == len(list(folder.iterdir())) == 3
        assert (folder.stat().st_mode & 0o7777, folder.stat().st_uid) == (0o700, os.geteuid())
        assert {each.stat().st_mode & 0o7777 for each in folder.iterdir()} == {0o600}

        os.kill(pids[1], signal.SIGKILL)
        server.started("a[2]")
        eventually(lambda: len(list(folder.iterdir())) == 3 and descriptors(server.pid) <= before)
        server.stop()
        assert not folder.exists()


@AS_ROOT
def test_another_user_cannot_keep_a_worker_from_saying_that_it_is_ready(tmp_path: Path) -> None:
    """All that a stranger finds in /proc/net/unix is tried, and what the environment says besides."""
    worker = Path(sys.executable).parent / "forkserve-worker"
    (tmp_path / "hello.py").write_text("def app(environ, start_response): raise SystemExit\n")
    config = f"[socket:web]\nport = 0\n[watcher:web]\ncmd = {worker} --fd $(circus.sockets.web) hello:app\n"
    with running(cwd=tmp_path, config=config + "ready_timeout = 20\ncopy_env = True\n") as server:
        pid = server.started("web[1]")
        known = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "forkserve" in line]
        known = [each for each in [*known, address_of(pid)] if str(folder_of(server, pid)) in each]
        assert known
        assert all(_is_refused(each) for each in known)
        server.expect(r"web\[1\] pid \d+ is ready")


def _is_refused(address: str) -> bool:
    stranger = os.fork()
    if stranger == 0:
        code = 1
        try:
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"READY=1", address)
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(stranger, 0)[1] == 0


@AS_ROOT
@pytest.mark.parametrize("how", ["uid", "setpriv"])
def test_a_process_of_another_user_says_that_it_is_ready(how: str, tmp_path: Path) -> None:
    tell = f"{TELL}; from signal import pause; pause()"
    command = shlex.join(["/usr/bin/python3", "-S", "-c", tell])
    if shutil.which("/usr/bin/python3") is None:
        pytest.skip("another user needs an interpreter that it can execute")
    change = "setpriv --reuid=nobody --clear-groups " if how == "setpriv" else ""
    more = "uid = nobody\n" if how == "uid" else ""
    config = f"[watcher:a]\ncmd = {change}{command}\nready_after = 1000\nworking_dir = /\n{more}"
    with running(cwd=tmp_path, config=config) as server:
        server.expect(r"a\[1\] pid \d+ is ready")


def test_a_process_that_writes_without_end_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "flood.py").write_text(f"{CONNECT}\nwhile True: s.send(b'STATUS=x')")
    config = f"[watcher:a]\ncmd = {sys.executable} -S flood.py\n[watcher:b]\ncmd = sh run.sh\nready_after = 1000\n"
    (tmp_path / "run.sh").write_text(f"{HELPER}\nexec sleep 1000\n")
    with running(cwd=tmp_path, config=config) as server:
        server.allow("ended by SIGKILL.*restarting")
        server.expect(r"b\[1\] pid \d+ is ready")
        first = server.rewound().started("b[1]")
        os.kill(first, signal.SIGKILL)
        server.expect(rf"b\[1\] pid (?!{first}\b)\d+ is ready")
        assert server.stop() == 0


SPEAKER = """
import array, os, socket, sys, time

def tell(text, *fds):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\\0" + address[1:] if address.startswith("@") else address)
        socket.send_fds(sock, [text.encode()], list(fds))

def barrier():
    reading, writing = os.pipe()
    tell("BARRIER=1", writing)
    os.close(writing)
    assert os.read(reading, 1) == b""

def given():
    assert os.environ.get("LISTEN_PID", "") in ("", str(os.getpid()))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":") if os.environ.get("LISTEN_FDS") else []
    return [(name, 3 + number) for number, name in enumerate(names)]
"""
"""What sd_notify(3) and sd_listen_fds(3) do, written down once for the programs of these tests."""


def speaking(folder: Path, program: str) -> str:
    (folder / "speaker.py").write_text(SPEAKER)
    (folder / "program.py").write_text(f"from speaker import *\n{program}")
    return f"{sys.executable} program.py"


def test_a_process_that_sends_no_watchdog_message_any_more_is_replaced(tmp_path: Path) -> None:
    cmd = speaking(
        tmp_path,
        """
assert os.environ["WATCHDOG_USEC"] == "1000000" and os.environ["WATCHDOG_PID"] == str(os.getpid())
tell("READY=1")
for _ in range(5):
    time.sleep(0.25)
    tell("WATCHDOG=1")
time.sleep(1000)
""",
    )
    with running(
        cwd=tmp_path, config=f"[watcher:a]\ncmd = {cmd}\nwatchdog = 1\nbackoff = 0\nmax_retry = -1\n"
    ) as server:
        server.allow("watchdog.*killed$")
        server.expect(r"a\[1\] pid \d+ is ready")
        server.expect(r"a\[1\] pid \d+ sent no WATCHDOG=1 for 1 s \(watchdog\)")
        ended = server.expect(r"a\[1\] pid \d+ .*SIGABRT after (\d+\.?\d*) s; restart")
        assert float(ended[1]) >= 2  # the messages have counted
        server.expect(r"a\[1\] pid \d+ is ready")


def test_a_process_that_says_that_it_is_stuck_is_replaced_at_once(tmp_path: Path) -> None:
    cmd = speaking(tmp_path, "tell('READY=1')\ntell('WATCHDOG=trigger')\ntime.sleep(1000)\n")
    with running(cwd=tmp_path, config=f"[watcher:a]\ncmd = {cmd}\nmax_retry = -1\n") as server:
        server.allow("watchdog.*killed$")
        server.expect(r"a\[1\] pid \d+ .*has said that it is stuck")


def test_a_process_may_ask_for_more_time_to_stop(tmp_path: Path) -> None:
    cmd = speaking(
        tmp_path,
        """
import signal
def stop(*_):
    tell("STOPPING=1\\nEXTEND_TIMEOUT_USEC=15000000")
    barrier()
    time.sleep(1.2)
    print("done", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
tell("READY=1")
signal.pause()
""",
    )
    with running(cwd=tmp_path, config=f"[watcher:a]\ncmd = {cmd}\ngraceful_timeout = 1\n") as server:
        server.expect(r"a\[1\] pid \d+ is ready")
        assert server.stop() == 0
        assert "done" in server.lines


def test_descriptors_that_a_process_stores_are_its_successors(tmp_path: Path) -> None:
    cmd = speaking(
        tmp_path,
        """
stored = given()
for name, fd in stored:
    print(name, os.pread(fd, 100, 0), flush=True)
if not stored:
    for name, text in (("one", b"1"), ("two", b"2"), ("gone", b"3"), ("more", b"4")):
        fd = os.memfd_create(name)
        os.write(fd, text)
        tell(f"FDSTORE=1\\nFDNAME={name}", fd)
    tell("FDSTOREREMOVE=1\\nFDNAME=gone")
    reading, writing = os.pipe()
    tell("FDSTORE=1\\nFDNAME=dead", reading)
barrier()
tell("READY=1\\nSTATUS=fine\\nERRNO=2")
time.sleep(1000)
""",
    )
    config = f"[watcher:a]\ncmd = {cmd}\nfdstore_max = 4\nbackoff = 0\nmax_retry = -1\n"
    with running(cwd=tmp_path, config=config) as server:
        first = server.started("a[1]")
        server.expect(r"a\[1\] pid \d+ is ready")
        os.kill(first, signal.SIGKILL)
        server.allow("SIGKILL")
        server.expect("^one b'1'$")
        server.expect("^two b'2'$")
        server.expect("^more b'4'$")
        server.send(signal.SIGHUP)
        server.expect("^one b'1'$")
        server.expect(r"a\[1\] pid \d+ is ready")
    assert "gone b" not in server.transcript()
    assert "dead" not in server.transcript()


def test_a_program_that_goes_into_the_background_is_kept_under_the_pid_that_it_has_named(tmp_path: Path) -> None:
    cmd = speaking(
        tmp_path,
        """
import signal
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.close(writing)
    os.read(reading, 1)  # until the one that was started has ended
    tell("READY=1\\nSTATUS=in the background")
    signal.pause()
tell(f"MAINPID={os.getppid()}")
children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
tell(f"MAINPID={children[0]}")
barrier()
""",
    )
    with running(cwd=tmp_path, config=f"[watcher:a]\ncmd = {cmd}\nready_after = 1000\n") as server:
        first = server.started("a[1]")
        server.expect(rf"a\[1\] pid {first} says MAINPID={server.pid}, which it has not started")
        server.expect_all(r"a\[1\] pid \d+ is ready", "goes on as pid")
        second = server.rewound().expect(rf"a\[1\] pid {first} goes on as pid (\d+), as it has said \(MAINPID\)")[1]

        assert server.stop() == 0
        assert f"a[1] pid {second} was ended by SIGTERM" in server.transcript()
