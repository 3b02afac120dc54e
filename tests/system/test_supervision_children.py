"""What a process is started with: words, environment, descriptors, limits, credentials; and where its output goes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from forkserve.supervision.os.proc import relations
from tests.support.forkserving import Forkserve, eventually, running


def _say(name: str, what: str, options: str = "") -> str:
    """A watcher that says something, then stays."""
    return f"[watcher:{name}]\ncmd = sh -c '{what}; exec sleep 1000'\n{options}\n"


def test_placeholders_give_slot_socket_environment_and_options(tmp_path: Path) -> None:
    config = """
[socket:web]
port = 0
[socket:other]
port = 0
[env:a]
HELLO = world
[watcher:a]
cmd = sh -c 'echo "said $@"; exec sleep 1000' sh
args = $(circus.wid) ((circus.sockets.other)) $(CIRCUS.SOCKETS.WEB) $(circus.env.hello) $(circus.numprocesses)
numprocesses = 2
"""
    with running(cwd=tmp_path, config=config) as server:
        server.expect_all("^said 1 3 4 world 2$", "^said 2 3 4 world 2$")


def test_without_copy_env_only_the_env_sections_and_the_handover_are_there(tmp_path: Path) -> None:
    config = "[env:a]\nONLY = this\n[watcher:a]\ncmd = sh -c '/usr/bin/env; exec sleep 1000'\n"
    with running(cwd=tmp_path, config=config, env={"SECRET": "not for you"}) as server:
        server.expect_all("^ONLY=this$", "^FORKSERVE_WID=1$", "^FORKSERVE_WATCHER=a$", "^NOTIFY_SOCKET=/.*/1$")
        assert "SECRET" not in server.transcript()


def test_copy_env_and_copy_path_hand_on_what_the_master_has(tmp_path: Path) -> None:
    config = _say("a", "echo $SHARED; echo $PYTHONPATH", "copy_env = True\ncopy_path = True")
    with running(cwd=tmp_path, config=config, env={"SHARED": "for you"}) as server:
        server.expect("^for you$")
        server.expect("site-packages")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_uid_and_gid_by_name_umask_limits_and_directory(tmp_path: Path) -> None:
    options = "uid = nobody\ngid = daemon\numask = 027\nrlimit_nofile = 77\nworking_dir = /usr/lib"
    with running(cwd=tmp_path, config=_say("a", "id -un; id -gn; umask; ulimit -n; pwd", options)) as server:
        for word in ("nobody", "daemon", "0027", "77", "/usr/lib"):
            server.expect(f"^{word}$")


def test_shell_runs_the_line_with_its_arguments(tmp_path: Path) -> None:
    config = '[watcher:a]\ncmd = echo "$0 and $1" | tr a-z A-Z; exec sleep 1000\nshell = True\nshell_args = one two\n'
    with running(cwd=tmp_path, config=config) as server:
        server.expect("^ONE AND TWO$")


def test_executable_is_run_under_the_first_word_of_cmd(tmp_path: Path) -> None:
    config = """[watcher:a]\ncmd = myname -c 'echo "I am $0"; exec sleep 1000'\nexecutable = /bin/sh\n"""
    with running(cwd=tmp_path, config=config) as server:
        server.expect("^I am myname$")


def test_closed_streams_lead_to_dev_null_and_stdin_is_closed_by_default(tmp_path: Path) -> None:
    links = "for n in 0 1 2; do readlink /proc/$$/fd/$n; done > $OUT"
    config = f"[env]\nOUT = {tmp_path}/out\n" + _say("a", links, "close_child_stderr = True")
    with running(cwd=tmp_path, config=config):
        eventually(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_text().count("\n") == 3)
        stdin, _, stderr = (tmp_path / "out").read_text().split()

        assert (stdin, stderr) == ("/dev/null", "/dev/null")


def test_a_socket_may_be_standard_input(tmp_path: Path) -> None:
    code = "import socket; s = socket.socket(fileno=0); s.accept()[0].sendall(b'by stdin')"
    (tmp_path / "stdin.py").write_text(code)
    config = (
        f"[socket:fcgi]\nport = 0\n[watcher:a]\ncmd = {sys.executable} -S stdin.py\nstdin_socket = fcgi\nrespawn = no\n"
    )
    with running(cwd=tmp_path, config=config) as server:
        port = int(server.expect(r"listening at 127.0.0.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            assert client.makefile("rb").read() == b"by stdin"


def test_a_process_has_no_descriptor_but_its_own(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[socket:web]\nport = 0\n" + _say("a", "echo here")) as server:
        pid = server.started("a[1]")

        # What loads its libraries has one more for a moment.
        eventually(lambda: sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"])


def test_output_goes_to_a_file_line_by_line_with_the_name_of_the_process(tmp_path: Path) -> None:
    options = f"stdout_stream.filename = {tmp_path}/out.log\nstdout_stream.prefix = True\nnumprocesses = 2"
    with running(cwd=tmp_path, config=_say("a", "echo one; echo two >&2", options)) as server:
        server.expect("^two$")
        eventually(lambda: _lines(tmp_path / "out.log") == 2)

        text = (tmp_path / "out.log").read_text()
        assert "a[1]" in text
        assert "a[2]" in text


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_warmup_delay_keeps_starts_apart(tmp_path: Path) -> None:
    with running(
        cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\nnumprocesses = 3\nwarmup_delay = 0.2\n"
    ) as server:
        for wid in (1, 2, 3):
            server.started(f"a[{wid}]")
        moments = [datetime.fromisoformat(line[:23]) for line in server.lines if " started: " in line]

        assert moments[2] - moments[0] > timedelta(seconds=0.35)


def test_autostart_off_waits_to_be_told(tmp_path: Path) -> None:
    config = "[watcher:a]\ncmd = sleep 1000\nautostart = False\n[watcher:b]\ncmd = sleep 1000\n"
    with running(cwd=tmp_path, config=config) as server:
        server.started("b[1]")

        assert "a[1]" not in server.transcript()


def test_a_process_that_never_says_ready_in_its_time_is_killed_and_counted_as_failed(tmp_path: Path) -> None:
    (tmp_path / "forkserve-worker").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "forkserve-worker").chmod(0o755)
    config = f"[watcher:a]\ncmd = {tmp_path}/forkserve-worker\nready_timeout = 0.2\nmax_retry = 1\n"
    with running(cwd=tmp_path, config=config) as server:
        server.allow("was not ready within 0.2 s", "ended by SIGKILL", "giving up")
        server.expect(r"was not ready within 0.2 s \(ready_timeout\): killed")

        assert server.wait() == 70


def _titles(server: Forkserve) -> set[str]:
    pids = [server.pid, *(each.pid for each in relations() if each.parent == server.pid)]
    return {Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().replace("\0", " ") for pid in pids}


@pytest.mark.parametrize("variable", ["PWD", "HOME"])
def test_titles_are_shown_whatever_the_environment_begins_with(tmp_path: Path, variable: str) -> None:
    environ = {variable: str(tmp_path), "PATH": os.environ["PATH"]}
    (tmp_path / "stack.ini").write_text("[watcher:a]\ncmd = sleep 1000\n")
    argv = [sys.executable, "-m", "forkserve", "--control", "none", "-c", "stack.ini", "--chdir", str(tmp_path)]
    with subprocess.Popen(argv, env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL) as master:
        shown = Path(f"/proc/{master.pid}/cmdline")
        try:
            eventually(lambda: shown.read_bytes().startswith(b"forkserve: master [stack.ini]"))
        finally:
            master.terminate()


def test_titles_and_memory_of_the_master(tmp_path: Path) -> None:
    with running(cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.started("a[1]")

        # a companion gives itself its title a moment after its fork
        eventually(lambda: _titles(server) == {"forkserve: master [stack.ini]", "forkserve: guard", "sleep 1000"})
        rollup = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
        sizes = {words[0]: int(words[1]) for line in rollup.splitlines()[1:] if (words := line.split())}
        assert sizes["Rss:"] < 34 * 1024
        assert sizes["Private_Dirty:"] < sizes["Shared_Dirty:"]  # with the guard, which is a fork


def test_a_pidfile_names_the_master_while_it_lives(tmp_path: Path) -> None:
    with running("--pidfile", "pid", cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.started("a[1]")
        assert int((tmp_path / "pid").read_text()) == server.pid
    assert not (tmp_path / "pid").exists()


def test_a_port_in_use_is_one_line_with_code_69_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = f"[socket:web]\nhost = 127.0.0.1\nport = {port}\n[watcher:a]\ncmd = sleep 1000\n"
        with running(cwd=tmp_path, config=config) as server:
            assert server.wait() == 69
            assert len(server.lines) == 1
            assert f"127.0.0.1:{port}" in server.lines[0]


def test_a_signal_during_the_start_is_not_lost(tmp_path: Path) -> None:
    config = "".join(f"[watcher:w{number}]\ncmd = sleep 1000\n" for number in range(8))
    with running(cwd=tmp_path, config=config) as server:
        server.started("w0[1]")

        assert server.stop(signal.SIGTERM) == 0


def test_a_daemon_is_detached_once_it_holds_its_sockets(tmp_path: Path) -> None:
    arguments = ("--daemon", "--pidfile", "pid", "--log-output", "log")
    with running(*arguments, cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.process.wait(20)
        log = tmp_path / "log"
        eventually(lambda: (tmp_path / "pid").exists() and log.exists() and "started" in log.read_text())
        master = int((tmp_path / "pid").read_text())
        assert os.getsid(master) not in (master, os.getsid(0))
        os.kill(master, signal.SIGTERM)

        assert server.wait() == 0
        eventually(lambda: not (tmp_path / "pid").exists())


def test_a_daemon_that_cannot_start_says_so_and_gives_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    with running("--daemon", "--pidfile", "pid", cwd=tmp_path, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.expect(f"error: pidfile .*: process {os.getpid()} is alive")

        assert server.wait() == 69


def test_the_limit_of_descriptors_is_the_one_that_the_master_was_started_with(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        with running(cwd=tmp_path, config="[watcher:a]\ncmd = sh -c 'ulimit -Sn; exec sleep 1000'\n") as server:
            server.expect("^200$")
            assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (limits[1], limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


SEED = """
import sys
from socket import AF_INET, SOCK_STREAM
import socket
sock = socket.fromfd(int(sys.argv[1]), AF_INET, SOCK_STREAM)
while True:
    conn, addr = sock.accept()
    conn.sendall(b"accepted")
    conn.close()
"""
"""What anybody writes who has an inherited descriptor to accept from."""


@pytest.mark.parametrize("how", ["--fd-socket", "a file", "handed in"])
def test_a_program_that_waits_in_accept_works_as_it_is_written(how: str, tmp_path: Path) -> None:
    (tmp_path / "seed.py").write_text(SEED)
    words = [sys.executable, "-S", "seed.py", "$(circus.sockets.web)"]
    config = f"[socket:web]\nport = 0\n[watcher:seed]\ncmd = {' '.join(words)}\nnumprocesses = 2\n"
    with socket.create_server(("127.0.0.1", 0)) as handed:
        fd = handed.fileno()
        place = f"fd://{fd}" if how == "handed in" else "127.0.0.1:0"
        line = () if how == "a file" else ("--fd-socket", f"web={place}", "-w", "2", "--", *words)
        with running(*line, cwd=tmp_path, config=config if how == "a file" else None, pass_fds=(fd,)) as server:
            name = "seed" if how == "a file" else Path(sys.executable).name
            found = server.expect(r"socket web: listening at (?:http://)?(.*):(\d+)")
            for _ in range(10):
                with socket.create_connection((found[1], int(found[2])), timeout=20) as client:
                    assert client.recv(100) == b"accepted"
            pids = {server.rewound().started(f"{name}[{wid}]") for wid in (1, 2)}
            assert {each.pid for each in server.children()} == pids


def test_a_socket_that_waits_for_some_and_not_for_others_is_warned_of(tmp_path: Path) -> None:
    worker = Path(sys.executable).parent / "forkserve-worker"
    (tmp_path / "seed.py").write_text(SEED)
    (tmp_path / "hello.py").write_text("def app(environ, start_response): ...\n")
    config = f"""
[socket:web]
port = 0
[socket:other]
port = 0
[watcher:seed]
cmd = {sys.executable} -S seed.py $(circus.sockets.other)
[watcher:web]
cmd = {worker} --fd $(circus.sockets.web) hello:app
copy_env = True
"""
    with running(cwd=tmp_path, config=config) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"seed\[1\] pid \d+ started")
        assert "non-blocking" not in server.transcript()
        (tmp_path / "stack.ini").write_text(config.replace("sockets.web", "sockets.other"))
        server.send(signal.SIGHUP)
        server.expect("WARNING .* socket other: forkserve-worker makes it non-blocking, for seed too")
