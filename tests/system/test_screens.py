"""The screens of forkservectl at a real master: status, progress, several masters by name."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.forkserving import Forkserve, eventually, running

CONFIG = """
[watcher:good]
cmd = sleep 1000
ready_after = 0.05
[watcher:bad]
cmd = sh -c "exit 4"
max_retry = 1
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return a short path: that of a socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        (Path(folder) / "run").mkdir(0o700)
        yield Path(folder) / "run"


def ctl(runtime: Path, *argv: str, stdout: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run forkservectl, which may see other masters of this machine as well: where a test has one, it is named."""
    only = runtime.parent / "one" / "stack.ini"
    argv = ("-c", str(only), *argv) if only.exists() else argv
    env = {"XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin", **env}
    if stdout is None:
        return commands.ctl(runtime.parent, *argv, env=env)
    command = [sys.executable, "-m", "forkserve.cli.ctl", *argv]
    return subprocess.run(command, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=20, check=False)


@contextlib.contextmanager
def master(runtime: Path, *argv: str, config: str = CONFIG) -> Iterator[Forkserve]:
    folder = runtime.parent / (argv[-1] if argv else "one")
    folder.mkdir()
    env = {"XDG_RUNTIME_DIR": str(runtime)}
    with running("--control", "auto", *argv, cwd=folder, config=config, env=env) as server:
        server.allow("given up")
        yield server


def test_status_says_why_and_exits_1_when_something_is_fatal(runtime: Path) -> None:
    with master(runtime) as server:
        server.expect("bad.* given up")
        eventually(lambda: "ready" in ctl(runtime, "status").stdout)
        done = ctl(runtime, "status")
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert lines[2].split()[:4] == ["bad", "fatal", "-", "1"]
        assert lines[3].startswith("    exited with code 4 after ")
        assert ctl(runtime, "status", "good").returncode == 0
        assert ctl(runtime, "--json", "status").returncode == 1


def test_status_is_coloured_on_a_terminal_unless_no_color_is_set(runtime: Path) -> None:
    with master(runtime) as server:
        server.expect("bad.* given up")
        for env, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
            reader, writer = pty.openpty()
            try:
                ctl(runtime, "status", stdout=writer, **env)
                assert (b"\x1b[31mfatal\x1b[0m" in os.read(reader, 65536)) is expected
            finally:
                os.close(reader)
                os.close(writer)


def test_a_reload_of_slow_processes_tells_how_far_it_is(runtime: Path) -> None:
    config = "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\nready_after = 1.2\n"
    with master(runtime, config=config) as server:
        server.started("web[2]")
        done = ctl(runtime, "reload", "web")
        assert done.returncode == 0
        assert "web: " in done.stderr
        assert "of 2 replaced, web[" in done.stderr
        assert "waits to be ready (" in done.stderr
        assert "replaced" in done.stdout
        assert ctl(runtime, "--json", "restart", "web").stderr == ""


def test_a_name_is_named_also_where_nothing_runs(tmp_path: Path) -> None:
    done = ctl(tmp_path, "-n", "shop", "status")
    assert done.returncode == 1
    assert "no forkserve is called 'shop'" in done.stderr


def test_several_are_listed_and_one_is_chosen_by_name(runtime: Path) -> None:
    with master(runtime, "--name", "shop") as shop:
        shop.expect_all("control: ", "bad.* given up")
        blog = subprocess.Popen(
            [sys.executable, "-m", "forkserve", "--name", "blog", "--", "sleep", "1000"],
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: len(list(runtime.glob("forkserve/*.sock"))) == 2)
            eventually(lambda: "blog" in ctl(runtime, "version").stderr)
            done = ctl(runtime, "version")
            assert done.returncode == 1
            assert "several forkserve are running; say which by -n NAME" in done.stderr
            assert re.search(r" good, bad +/", done.stderr)
            assert re.search(r"command line +sleep +/", done.stderr)
            file = f"{runtime.parent}/shop/stack.ini"
            for name, pid, runs in (("shop", shop.pid, file), ("blog", blog.pid, "command")):
                assert any(line.split()[:3] == [name, str(pid), runs] for line in done.stderr.splitlines())
                said = ctl(runtime, "-n", name, "version").stdout
                assert f" {name}, master pid {pid}, " in said
                assert f"runs {runs}" in said
            assert "no forkserve is called 'shp'" in ctl(runtime, "-n", "shp", "version").stderr
        finally:
            blog.terminate()
            assert blog.wait(20) == 0


def test_hup_after_winch_starts_each_worker_once(tmp_path: Path) -> None:
    config = "[socket:web]\nport = 0\n[watcher:web]\ncmd = sh -c 'exec sleep 1000' $(circus.sockets.web)\n"
    config += "numprocesses = 2\nready_after = 0.1\n"
    with running(cwd=tmp_path, config=config) as server:
        server.started("web[1]")
        server.started("web[2]")
        server.send(signal.SIGWINCH)
        eventually(lambda: not server.children())
        before = len(server.lines)
        server.send(signal.SIGHUP)
        eventually(lambda: len(server.children()) == 2)
        server.expect("configuration read again")
        server.expect_all(r"web\[1\] pid \d+ started: ", r"web\[2\] pid \d+ started: ")
        server.send(signal.SIGUSR1)
        server.expect("log files reopened")
        assert sum(" started: " in line for line in server.lines[before:]) == 2, server.transcript()


def test_the_tree_has_what_descends_from_a_process_and_the_analysis_what_the_start_took(runtime: Path) -> None:
    script = "sh -c 'sh -c \"sleep 1000; exit\" ; exit'"
    config = "[watcher:db]\ncmd = sleep 1000\nready_after = 0.1\n"
    config += f"[watcher:web]\ncmd = {script}\nready_after = 0.1\nafter = db\nstop_children = True\n"
    with master(runtime, config=config) as server:
        server.started("web[1]")
        env = {"LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}
        eventually(lambda: "sleep" in ctl(runtime, "tree", "web", **env).stdout)
        lines = ctl(runtime, "tree", **env).stdout.splitlines()
        assert lines[1].startswith("├─ db: active, 1 of 1")
        assert any(line.startswith("│  └─ web[1] ") for line in lines)
        assert any(line.startswith("│     └─ sh ") for line in lines)
        assert any(line.startswith("│        └─ sleep ") for line in lines)
        eventually(lambda: "web starts" in ctl(runtime, "analyze").stdout)
        assert "web comes after db" in ctl(runtime, "analyze", "web").stdout
        assert "no watcher 'wbe'" in ctl(runtime, "analyze", "wbe").stderr


def test_an_interrupt_ends_the_wait_and_not_the_work(runtime: Path) -> None:
    """Whatever takes long: it goes on, and forkservectl says so."""
    config = f"[watcher:web]\ncmd = sh -c \"trap '' TERM; until [ -e {runtime}/go ]; do sleep 0.1; done\"\n"
    config += "ready_after = 0.05\ngraceful_timeout = 60\nstop_children = True\n"
    with master(runtime, config=config) as server:
        server.started("web[1]")
        server.allow("SIGKILL", "killed")
        eventually(lambda: "ready" in ctl(runtime, "status").stdout)
        only = str(runtime.parent / "one" / "stack.ini")
        for verb in ("reload", "quit"):
            argv = [sys.executable, "-u", "-m", "forkserve.cli.ctl", "-c", only, verb, *["web"] * (verb != "quit")]
            env = {"XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"}
            with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as asked:
                assert asked.stderr is not None
                assert "stopping" in asked.stderr.readline()  # its progress
                asked.send_signal(signal.SIGINT)
                assert asked.wait(20) == 130
                again = f"interrupted; the work goes on ({verb}): see `forkservectl -c {only} status`"
                assert again in asked.stderr.read()
            assert "draining" in ctl(runtime, "status", "web").stdout
        (runtime / "go").touch()
        assert server.wait() == 0
