"""Deploys by a link, `ln -sfn releases/2 current`: what is started after it is the new release, also after a crash."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running
from tests.support.serving import COMMAND, PATIENCE, run_worker, serving

SITE = """
def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"r{}"]
"""
STACK = """
[socket:web]
port = 0
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) site_r:app
use_sockets = True
copy_env = True
numprocesses = {}
graceful_timeout = 5
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        release = tmp_path / "releases" / str(number)
        release.mkdir(parents=True)
        (release / "site_r.py").write_text(SITE.format(number))
        (release / "stack.ini").write_text(STACK.format(number))
    switch(tmp_path, 1)
    return tmp_path


def switch(root: Path, number: int) -> None:
    """Let the link lead to a release, in one step."""
    (root / "new").symlink_to(f"releases/{number}")
    (root / "new").rename(root / "current")


def ask(address: tuple[str, int]) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE)) as conn:
        conn.request("GET", "/")
        return conn.getresponse().read()


def address_of(server: Forkserve) -> tuple[str, int]:
    found = server.expect(r"socket web: listening at http://(.*):(\d+)")
    return found[1], int(found[2])


@contextlib.contextmanager
def started(root: Path, how: str) -> Iterator[Forkserve]:
    """Start forkserve in the folder that the link names, or by naming it."""
    current = root / "current"
    short = ["-b", "127.0.0.1:0", "site_r:app"]
    if how == "in it":
        with running(*short, cwd=current, env={"PWD": str(current)}) as server:
            yield server
    elif how == "by --chdir":
        with running("--chdir", "current", *short, cwd=root, env={"PWD": str(root)}) as server:
            yield server
    else:
        with running("-c", "stack.ini", cwd=current, env={"PWD": str(current)}) as server:
            yield server


@pytest.mark.parametrize("how", ["in it", "by --chdir", "with a file"])
def test_a_reload_and_a_restart_after_a_crash_serve_what_the_link_names(root: Path, how: str) -> None:
    with started(root, how) as server:
        address = address_of(server)
        first = server.started("web[1]")
        assert ask(address) == b"r1"

        switch(root, 2)
        server.send(signal.SIGHUP)
        server.expect(r"web\[1\] pid \d+ .* SIGTERM|web\[1\] pid \d+ exited")
        eventually(lambda: first not in {each.pid for each in server.children()})
        eventually(lambda: ask(address) == b"r2")
        if how == "with a file":
            eventually(lambda: len(server.children()) == 2)

        shutil.rmtree(root / "releases" / "1")
        switch(root, 3)
        shutil.rmtree(root / "releases" / "2")
        server.allow("SIGKILL")
        before = {each.pid for each in server.children()}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: len({each.pid for each in server.children()} - before) == len(before))
        eventually(lambda: ask(address) == b"r3")


def test_forkservectl_finds_the_master_by_the_name_of_its_file_whatever_the_link_names(root: Path) -> None:
    runtime = root / "run"
    runtime.mkdir(0o700)
    env = {"PWD": str(root / "current"), "XDG_RUNTIME_DIR": str(runtime)}
    with running("-c", "stack.ini", "--control", "auto", cwd=root / "current", env=env) as server:
        server.started("web[1]")
        switch(root, 2)
        ctl = str(Path(COMMAND).parent / "forkservectl")
        for cwd, name in ((root, "current/stack.ini"), (root / "current", str(root / "current" / "stack.ini"))):
            done = subprocess.run(
                [ctl, "-c", name, "list"],
                cwd=cwd,
                env={**os.environ, **env, "PWD": str(cwd)},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert (done.returncode, done.stdout) == (0, "web\n"), done.stderr


def test_a_lone_worker_loads_anew_what_the_link_names(root: Path) -> None:
    words = ["--chdir", "current", "--graceful-timeout", "1", "site_r:app"]
    with serving(words, folder=root, environ={"PWD": str(root)}) as worker:
        assert worker.request("GET", "/")[1] == b"r1"
        switch(root, 2)
        shutil.rmtree(root / "releases" / "1")
        worker.signal(signal.SIGHUP)
        eventually(lambda: worker.request("GET", "/")[1] == b"r2")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_a_folder_that_is_gone_is_said_in_a_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD" && exec "$@"'
    for words, said in (
        (["zebra_r:app"], "looked in the working directory, which has been deleted, and the Python path"),
        (["site_r.py:app"], "site_r.py is relative to the working directory, which has been deleted"),
        (["--python-path", "lib", "site_r:app"], "lib is relative to the working directory, which has been deleted"),
    ):
        gone.mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", script, "sh", COMMAND, "--check", *words],
            cwd=gone,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
        assert said in done.stderr
    assert run_worker("--check", "wsgiref.simple_server:demo_app", folder=tmp_path).status == 0
