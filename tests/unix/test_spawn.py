"""Programs are started with exactly what their spec says, and what cannot be started says why."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest

from forkserve.supervision.os.reap import Exit
from forkserve.supervision.os.spawn import SpawnError, SpawnSpec, SpawnStage
from forkserve.unix.privileges import Credentials
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


def output_of(script: str, **spec: object) -> str:
    """Run a shell script as the spec says and return what it prints."""
    reading, writing = os.pipe()
    given = {"argv": ("/bin/sh", "-c", script), "env": PATH, "stdout": writing, **spec}
    try:
        pid = spawn(SpawnSpec(**given))  # type: ignore[arg-type]
    finally:
        os.close(writing)
    with open(reading) as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text.strip()


def failure_of(**spec: object) -> SpawnError:
    with pytest.raises(SpawnError) as caught:
        spawn(SpawnSpec(**({"argv": ("/bin/true",), "env": PATH} | spec)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_program_has_the_descriptors_it_was_given_and_no_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as admin:
        os.set_inheritable(web.fileno(), True)
        listing = output_of("ls /proc/$$/fd", sockets={"web": web.fileno(), "admin": admin.fileno()})

    assert listing.split() == ["0", "1", "2", "3", "4"]


def test_sockets_are_announced_in_order_to_the_new_pid() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as admin:
        text = output_of(
            "echo $LISTEN_FDS $LISTEN_FDNAMES; test $LISTEN_PID = $$ && readlink /proc/$$/fd/3 /proc/$$/fd/4",
            sockets={"web": web.fileno(), "admin": admin.fileno()},
        )
        inodes = [f"socket:[{os.fstat(each.fileno()).st_ino}]" for each in (web, admin)]

    assert text.split() == ["2", "web:admin", *inodes]


def test_sockets_are_not_announced_when_the_command_did_not_ask() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        text = output_of("env; ls /proc/$$/fd", sockets={"web": web.fileno()}, listen_fds=False)

    assert "LISTEN" not in text
    assert text.split()[-1] == "3"


def test_descriptors_that_overlap_their_targets_arrive_unharmed() -> None:
    pipes = [os.pipe() for _ in range(3)]
    readers = [reader for reader, _ in pipes]
    low = sorted(readers)[0]
    for index, (_, writer) in enumerate(pipes):
        os.write(writer, f"{index}\n".encode())
        os.close(writer)
    targets = {low + 2: readers[0], low: readers[2], low + 1: readers[1]}
    script = f"import os\nfor fd in {low + 2}, {low + 1}, {low}: print(os.read(fd, 9).decode())"
    text = output_of("", argv=(sys.executable, "-c", script), fds=targets)
    for reader in readers:
        os.close(reader)

    assert text.split() == ["0", "1", "2"]


def test_a_program_leads_its_own_session_and_group() -> None:
    text = output_of("cut -d' ' -f1,5,6 /proc/$$/stat")

    assert len(set(text.split())) == 1


def test_signals_are_as_after_login() -> None:
    previous = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    text = output_of("", argv=("/bin/cat", "/proc/self/status"))
    now = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGUSR2, previous)

    sets = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Sig"))
    # Signals 32 and 33 are the C library's own (nptl(7)): what an ancestor did to them nobody can undo.
    assert {int(sets[each], 16) & ~(0b11 << 31) for each in ("SigBlk", "SigIgn", "SigCgt")} == {0}
    assert now == mask | {signal.SIGUSR1}


def test_environment_directory_and_umask_are_those_of_the_spec(tmp_path: Path) -> None:
    text = output_of("pwd; umask; echo $A", cwd=str(tmp_path), umask=0o027, env={"A": "b"})

    assert text.split() == [str(tmp_path), "0027", "b"]


def test_limits_are_set_soft_and_hard() -> None:
    text = output_of("ulimit -Sn; ulimit -Hn; ulimit -Sc", rlimits={"RLIMIT_NOFILE": 77, "RLIMIT_CORE": 0})

    assert text.split() == ["77", "77", "0"]


@as_root
def test_a_user_is_taken_with_groups_and_without_a_way_back() -> None:
    text = output_of("id -u; id -g; id -G", credentials=Credentials(NOBODY, NOBODY, (NOBODY, 4)))

    assert text.splitlines() == ["65534", "65534", "65534 4"]


@as_root
def test_the_death_signal_survives_the_change_of_user(tmp_path: Path) -> None:
    script = f"""
import os, sys
from forkserve.unix.privileges import Credentials
from forkserve.supervision.os.spawn import SpawnSpec
from tests.support.spawning import spawn
credentials = Credentials({NOBODY}, {NOBODY}, ())
spawn(SpawnSpec(argv=("/bin/sh", "-c", "echo started; exec sleep 100"), env={{}}, credentials=credentials))
sys.stdin.read()
"""
    to_master, from_child = os.pipe(), os.pipe()
    master = spawn(
        SpawnSpec(argv=(sys.executable, "-c", script), env=os.environ, stdin=to_master[0], stdout=from_child[1])
    )
    os.close(to_master[0])
    os.close(from_child[1])
    with open(from_child[0]) as file:
        assert file.readline() == "started\n"
        os.kill(master, signal.SIGKILL)
        os.waitpid(master, 0)
        os.close(to_master[1])
        assert file.read() == ""


def test_argv0_may_differ_from_the_executable() -> None:
    text = output_of("", argv=("pretender", "-c", "echo $0"), executable="/bin/sh")

    assert text == "pretender"


def test_own_programs_are_found_beside_the_running_python() -> None:
    pid = spawn(SpawnSpec(argv=("forkserve", "--version"), env={"PATH": "/nowhere"}, stdout=None))

    assert os.waitpid(pid, 0)[1] == 0


def test_a_missing_program_is_named_with_its_path() -> None:
    error = failure_of(argv=("no-such-program",))

    assert (error.number, error.stage) == (errno.ENOENT, SpawnStage.FIND)
    assert str(error) == "command 'no-such-program' not found on its PATH"


def test_a_missing_program_without_any_path_hints_at_copy_env() -> None:
    assert "copy_env" in str(failure_of(argv=("no-such-program",), env={}))


def test_a_missing_directory_is_named() -> None:
    error = failure_of(cwd="/no/such/directory")

    assert (error.number, error.stage) == (errno.ENOENT, SpawnStage.DIRECTORY)
    assert "/no/such/directory: No such file or directory" in str(error)


@pytest.mark.parametrize(
    ("first_line", "mode", "reason"),
    [
        ("#!/no/such/interpreter", 0o755, "interpreter"),
        ("echo hello", 0o755, "begins with #!"),
        ("#!/bin/sh", 0o644, "chmod +x"),
    ],
)
def test_a_file_that_cannot_be_executed_says_why(tmp_path: Path, first_line: str, mode: int, reason: str) -> None:
    program = tmp_path / "program"
    program.write_text(first_line + "\n")
    program.chmod(mode)
    error = failure_of(argv=(str(program),))

    assert error.stage is SpawnStage.EXECUTE
    assert reason in str(error)


def test_an_impossible_limit_is_named() -> None:
    error = failure_of(rlimits={"RLIMIT_NOFILE": 2**40})

    assert error.stage is SpawnStage.LIMITS
    assert "RLIMIT_NOFILE=1099511627776" in str(error)


def test_a_descriptor_that_is_not_open_is_an_error_of_its_own() -> None:
    error = failure_of(sockets={"web": 999})

    assert (error.number, error.stage) == (errno.EBADF, SpawnStage.DESCRIPTORS)


@as_root
def test_a_user_nobody_may_become_is_an_error() -> None:
    """Inside a child, since giving up root is for good."""
    pid = os.fork()
    if pid == 0:
        os.setuid(NOBODY)
        try:
            spawn(SpawnSpec(argv=("/bin/true",), env={}, credentials=Credentials(0, 0, ())))
        except SpawnError as error:
            os._exit(0 if error.stage is SpawnStage.USER and error.number == errno.EPERM else 1)
        os._exit(2)

    assert os.waitpid(pid, 0)[1] == 0


@as_root
def test_a_fork_that_fails_is_an_error_and_harms_nothing() -> None:
    """Inside a child of another user, since the limit of processes does not bind root."""
    pid = os.fork()
    if pid == 0:
        os.setgid(54321)
        os.setuid(54321)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        try:
            spawn(SpawnSpec(argv=("/bin/true",), env={}))
        except SpawnError as error:
            os._exit(0 if error.stage is SpawnStage.FORK and error.number == errno.EAGAIN else 1)
        os._exit(2)

    assert os.waitpid(pid, 0)[1] == 0


def test_a_signal_during_the_start_reaches_the_program_alone() -> None:
    """The wakeup descriptor is shared with the fork: what the child gets must not be counted here as well."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        previous_fd = signal.set_wakeup_fd(writing.fileno())
        previous = signal.signal(signal.SIGTERM, lambda _signum, _frame: None)
        pids = [spawn(SpawnSpec(argv=("/bin/sleep", "100"), env={})) for _ in range(5)]
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        ends = [os.waitpid(pid, 0)[1] for pid in pids]
        signal.signal(signal.SIGTERM, previous)
        signal.set_wakeup_fd(previous_fd)
        reading.setblocking(False)
        with pytest.raises(BlockingIOError):
            reading.recv(1)

    assert ends == [signal.SIGTERM] * 5


def test_an_end_reads_well() -> None:
    assert str(Exit(1, 3, None)) == "exited with code 3"
    assert str(Exit(1, None, signal.SIGKILL)) == "was ended by SIGKILL"
    assert str(Exit(1, None, signal.SIGSEGV, dumped=True)) == "was ended by SIGSEGV (core dumped)"
