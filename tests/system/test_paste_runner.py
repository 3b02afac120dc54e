"""`[server:main] use = egg:forkserve`: PasteDeploy's own loader hands its application to forkserve."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest

from forkserve.cli.pastedeploy import words_of
from forkserve.errors import ConfigError

APP = """
import os

def make(global_conf, **local):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{local['greeting']} {os.getpid()}".encode()]
    return app
"""
RUN = """
import sys
from paste.deploy import loadapp, loadserver
where = "config:" + sys.argv[1]
loadserver(where)(loadapp(where))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_of_a_paste_file_is_served(tmp_path: Path, workers: int) -> None:
    (tmp_path / "pastedapp.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "app.ini").write_text(
            "[app:main]\npaste.app_factory = pastedapp:make\ngreeting = hello\n"
            "[server:main]\npaste.server_runner = forkserve.cli.pastedeploy:serve\n"
            f"bind = fd://{listener.fileno()}\nworkers = {workers}\ngraceful_timeout = 2\n"
        )
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-u", "-c", RUN, str(tmp_path / "app.ini")]
        with subprocess.Popen(
            command, cwd=tmp_path, env=env, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
        ) as server:
            try:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                with urllib.request.urlopen(url, timeout=20) as answer:
                    greeting, pid = answer.read().decode().split()
                assert greeting == "hello"
                assert (int(pid) == server.pid) == (workers == 1)
                server.send_signal(signal.SIGTERM)
                assert server.wait(20) == 0
            finally:
                server.kill()


def test_the_keys_of_the_section_are_options_of_the_worker() -> None:
    assert words_of({"host": "::1", "port": "80", "use_reloader": "false", "threads": "4"}) == [
        "--threads", "4", "--bind", "[::1]:80",
    ]  # fmt: skip
    assert words_of({"use_reloader": "on"})[0] == "--use-reloader"
    with pytest.raises(ConfigError, match=r"\[server:main\] thread: unknown option; did you mean 'threads'"):
        words_of({"thread": "4"})


def test_the_entry_point_is_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["paste.server_runner"] == {"main": "forkserve.cli.pastedeploy:serve"}
