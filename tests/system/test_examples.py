"""Every file of examples/ does what it says: the command in its docstring is run as it stands, but for its port."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running
from tests.support.programs import program
from tests.support.serving import bound

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
COMMANDS = str(Path(sys.executable).parent)
ENV = {"PATH": f"{COMMANDS}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
WEB = {"hello.py": "Hello", "hello_asgi.py": "Hello", "flask_app.py": "Flask", "django_app.py": "Django"}


def told(path: Path) -> list[str]:
    """Return the words behind `forkserve` of the command that the docstring of a file tells."""
    found = re.search(r"^(?:.*`)?forkserve (?P<words>[^`\n]+)`?\.?", path.read_text(), re.MULTILINE)
    assert found, f"{path.name} does not tell how to run it"
    return shlex.split(found["words"])


def on(listener: socket.socket, words: Sequence[str]) -> list[str]:
    """Put the number of a bound socket in place of the port that every example names."""
    assert any(":8000" in word for word in words), words
    return [word.replace(":8000", f"fd://{listener.fileno()}") for word in words]


@contextlib.contextmanager
def example(name: str) -> Iterator[tuple[Forkserve, tuple[str, int]]]:
    with (
        contextlib.closing(bound()) as listener,
        running(*on(listener, told(EXAMPLES / name)), cwd=EXAMPLES, pass_fds=[listener.fileno()], env=ENV) as server,
    ):
        yield server, listener.getsockname()


def get(address: tuple[str, int], path: str = "/") -> str:
    with contextlib.closing(HTTPConnection(*address, timeout=20)) as client:
        client.request("GET", path)
        response = client.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body


def copy(name: str, folder: Path, *changes: tuple[str, str]) -> None:
    """Copy a file of the examples, with what cannot be tested as it stands exchanged."""
    text = (EXAMPLES / name).read_text()
    for old, new in changes:
        assert old in text, f"{old!r} is not in {name}"
        text = text.replace(old, new)
    (folder / Path(name).name).write_text(text)


def test_every_example_is_tested_here() -> None:
    tested = {
        *WEB, "accept_loop.py", "ticker.py", "serve.toml", "stack/app.py", "stack/circus.ini", "nginx/nginx.conf",
        "celery/forkserve.toml", "celery/shop.py", "rq/circus.ini", "rq/jobs.py", "virtualenvs/forkserve.toml",
        "virtualenvs/service.py", "waiting/circus.ini", "waiting/hooks.py",
    }  # fmt: skip
    elsewhere = {"monitoring/README.md", "monitoring/alerts.yaml", "monitoring/grafana.json"}
    listed = subprocess.run(["git", "ls-files", "."], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    names = set(listed.stdout.split()) or {str(each.relative_to(EXAMPLES)) for each in EXAMPLES.rglob("*.*")}
    assert {name for name in names if "__pycache__" not in name} <= tested | elsewhere


@pytest.mark.parametrize("name", WEB)
def test_an_application_is_served_by_the_workers_it_asks_for(name: str) -> None:
    words = told(EXAMPLES / name)
    workers = int(words[words.index("-w") + 1]) if "-w" in words else 1
    with example(name) as (server, address):
        pids = {server.started(f"web[{wid}]") for wid in range(1, workers + 1)}
        server.expect_all(*(rf"web\[{wid}\] pid \d+ is ready" for wid in range(1, workers + 1)))
        body = get(address)
        assert WEB[name] in body
        answering = json.loads(body)["pid"] if body.startswith("{") else int(body.split()[-1])
        assert answering in pids
        assert {each.pid for each in server.children()} == pids


def test_the_accept_loop_answers_by_hand() -> None:
    with example("accept_loop.py") as (server, address):
        pid = int(server.expect(r"\[1\] pid (\d+) started")[1])
        assert get(address) == f"hello from process {pid}\n"
        server.allow("was ended by SIGTERM")


def test_the_ticker_ticks_and_stops_in_order() -> None:
    with running(*told(EXAMPLES / "ticker.py"), cwd=EXAMPLES, env=ENV) as server:
        pid = int(server.expect(r"\[1\] pid (\d+) started")[1])
        server.rewound().expect(rf"tick 0 from process {pid}")  # it may say so before the master has
        assert server.stop() == 0
        server.expect(rf"pid {pid} exited with code 0")


def test_what_make_serve_runs_has_two_workers_and_a_ticker(tmp_path: Path) -> None:
    copy("serve.toml", tmp_path, ('host = "0.0.0.0"', 'host = "127.0.0.1"'), ("port = 8000", "port = 0"))
    for name in ("hello.py", "ticker.py"):
        copy(name, tmp_path)
    # As in a shell that has not activated the environment, where Debian knows no `python`.
    bare = {**ENV, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    if shutil.which("python3", path=bare["PATH"]) is None:
        bare = ENV
    with running("-c", "serve.toml", cwd=tmp_path, env=bare) as server:
        port = int(server.expect(r"socket web: listening at \S*127\.0\.0\.1:(\d+)")[1])
        server.expect_all(
            r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready", r"ticker\[1\] pid \d+ started", "tick 0"
        )
        assert get(("127.0.0.1", port)).startswith("Hello from process")
        assert server.stop() == 0


def test_the_stack_counts_visits_in_its_redis_across_workers_and_leaves_nothing(tmp_path: Path) -> None:
    program("redis-server")
    pytest.importorskip("redis")
    copy("stack/circus.ini", tmp_path, ("port = 8000", "port = 0"))
    copy("stack/app.py", tmp_path)
    with running("-c", "circus.ini", cwd=tmp_path, env={**ENV, "STACK_DIR": str(tmp_path)}) as server:
        address = "127.0.0.1", int(server.expect(r"socket web: listening at \S*127\.0\.0\.1:(\d+)")[1])
        redis = server.started("redis[1]")
        web = {server.started("web[1]"), server.started("web[2]")}
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        assert (tmp_path / "redis.sock").is_socket()
        words = [get(address).split() for _ in range(20)]
        assert [int(each[1]) for each in words] == list(range(1, 21))
        assert {int(each[-1]) for each in words} <= web
        assert {each.pid for each in server.children()} == {redis, *web}
        assert server.stop() == 0
        # Web first, Redis last: who serves may still need it.
        server.expect_all(*(rf"web\[{wid}\] pid \d+ exited with code 0" for wid in (1, 2)))
        server.expect(rf"redis\[1\] pid {redis} exited with code 0")
    eventually(lambda: not (tmp_path / "redis.sock").exists())


@pytest.mark.parametrize(
    "name",
    [
        "serve.toml", "stack/circus.ini", "celery/forkserve.toml", "rq/circus.ini", "virtualenvs/forkserve.toml",
        "waiting/circus.ini",
    ],
)  # fmt: skip
def test_the_configuration_files_pass_the_check(name: str, tmp_path: Path) -> None:
    shutil.copytree((EXAMPLES / name).parent, tmp_path / "here", ignore=shutil.ignore_patterns("__pycache__"))
    for each in ("celery", "rq", "gunicorn", "redis-server"):  # whether these are installed is not the question
        (tmp_path / each).write_text("#!/bin/sh\n")
        (tmp_path / each).chmod(0o755)
    if "virtualenvs" in name:
        for each in ("old", "new"):
            venv.create(tmp_path / "here" / "venvs" / each)
    done = subprocess.run(
        [sys.executable, "-m", "forkserve", "check", Path(name).name],
        cwd=tmp_path / "here",
        env={**os.environ, **ENV, "PATH": f"{ENV['PATH']}:{tmp_path}", "STACK_DIR": "/run/stack"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    conf = (EXAMPLES / "nginx" / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\n{conf}")
    (tmp_path / "nginx.conf").write_text(
        (tmp_path / "nginx.conf").read_text().replace("http {", "http {\n    access_log off;", 1)
    )
    done = subprocess.run(
        [program("nginx"), "-t", "-p", str(tmp_path), "-c", "nginx.conf", "-g", "daemon off;"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "syntax is ok" in done.stderr
    assert "[warn]" not in done.stderr or os.getuid() != 0


def test_each_service_runs_in_its_own_environment(tmp_path: Path) -> None:
    for name in ("forkserve.toml", "service.py"):
        copy(f"virtualenvs/{name}", tmp_path)
    for name in ("old", "new"):
        venv.create(tmp_path / "venvs" / name)
    with running("-c", "forkserve.toml", cwd=tmp_path, env=ENV) as server:
        server.expect_all(
            f"old runs in {tmp_path}/venvs/old", f"new runs in {tmp_path}/venvs/new", f"plain runs in {sys.prefix}"
        )
        assert server.stop() == 0


def test_a_worker_waits_for_its_database_and_others_do_not(tmp_path: Path) -> None:
    for name in ("circus.ini", "hooks.py"):
        copy(f"waiting/{name}", tmp_path)
    with contextlib.closing(socket.socket()) as database:
        database.bind(("127.0.0.1", 0))  # it does not listen yet
        env = {**ENV, "DATABASE": f"127.0.0.1:{database.getsockname()[1]}"}
        with running("-c", "circus.ini", cwd=tmp_path, env=env) as server:
            server.expect("the other runs")
            assert "worker[1]" not in server.transcript()
            database.listen()
            server.expect("the database is there")
            server.expect("after_start: worker")
            assert server.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_celery_gunicorn_and_redis_work_together_and_stop_in_order(tmp_path: Path) -> None:
    program("redis-server")
    pytest.importorskip("celery", reason="Celery is not installed")
    copy("celery/forkserve.toml", tmp_path, ("port = 8000", "port = 0"))
    copy("celery/shop.py", tmp_path)
    with running(
        "-c", "forkserve.toml", "--control", "c.sock", cwd=tmp_path, env={**ENV, "STACK_DIR": str(tmp_path)}
    ) as server:
        address = "127.0.0.1", int(server.expect(r"socket web: listening at \S*127\.0\.0\.1:(\d+)")[1])
        server.expect("celery@.* ready", timeout=60)
        assert get(address, "/?one=1&other=2") == "3\n"
        ctl = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", "c.sock", "run", "report"]
        report = subprocess.run(ctl, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert report.returncode == 0, report.stderr
        server.expect("report: 42")
        assert server.stop() == 0
        server.expect(r"worker\[1\] pid \d+ exited with code 0")
        server.expect(r"redis\[1\] pid \d+ exited with code 0")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_workers_of_rq_do_jobs_and_end_the_one_that_they_have(tmp_path: Path) -> None:
    program("redis-server")
    pytest.importorskip("rq", reason="rq is not installed")
    copy("rq/circus.ini", tmp_path)
    copy("rq/jobs.py", tmp_path)
    env = {**ENV, "STACK_DIR": str(tmp_path)}
    with running("-c", "circus.ini", cwd=tmp_path, env=env) as server:
        for _ in range(3):
            server.expect(r"[Ll]istening on .*(urgent|slow)", timeout=60)
        asked = subprocess.run(
            [sys.executable, "jobs.py", "twelve chars"],
            cwd=tmp_path,
            env={**os.environ, **env, "RQ_REDIS_URL": f"unix://{tmp_path}/redis.sock"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (asked.stdout, asked.returncode) == ("12\n", 0), asked.stderr
        assert server.stop() == 0
