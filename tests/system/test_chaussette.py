"""The command `chaussette`: Chaussette's defaults and command lines, served by forkserve-worker; hooks on every end."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from forkserve.cli.chaussette import main, read_chaussette_line
from forkserve.errors import UsageError
from tests.support.forkserving import eventually, running
from tests.support.serving import PATIENCE, bound, serving

COMMAND = [sys.executable, "-m", "forkserve.cli.chaussette"]
SITE = """\
import sys

def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return ["|".join(sys.argv[1:]).encode()]

def tell(line):
    with open("log", "a") as file:
        file.write(line + "\\n")

def before(options):
    tell(f"before {options.backend} {options.host} {options.port} {options.address_family.name} {options.arguments}")

def after(options):
    tell(f"after {options.backend}")

def slow(options):
    tell("slow")
    while True:
        pass

def broken(options):
    raise ValueError("broken on purpose")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_c.py").write_text(SITE)
    return tmp_path


@contextlib.contextmanager
def chaussette(*words: str, folder: Path, fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=folder, pass_fds=fds, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def get(listener: socket.socket) -> bytes:
    connection = http.client.HTTPConnection(*listener.getsockname(), timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()


def listen_of(*words: str, environ: Mapping[str, str] | None = None) -> tuple[str | None, int | None]:
    listen = read_chaussette_line(words, environ or {}).options.listen
    return listen.host, listen.port


def ended(process: subprocess.Popen[str]) -> int:
    _, said = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said
    return process.returncode


@pytest.mark.parametrize("backend", ["sync", "wsgiref", "waitress", "gevent", "tornado"])
def test_without_an_application_every_backend_says_hello(folder: Path, backend: str) -> None:
    pytest.importorskip(backend) if backend in ("waitress", "gevent", "tornado") else None
    with (
        bound() as listener,
        chaussette("--fd", str(listener.fileno()), "--backend", backend, folder=folder, fds=(listener.fileno(),)) as it,
    ):
        assert get(listener) == b"hello world"
        it.terminate()
        assert ended(it) == 0


def test_words_after_the_application_are_its_arguments(folder: Path) -> None:
    with bound() as listener:
        fd = listener.fileno()
        words = ("--fd", str(fd), "site_c.app", "one", "--backlog", "5", "two", "--", "--three")
        with chaussette(*words, folder=folder, fds=(fd,)) as it:
            assert get(listener) == b"one|two|--three"
            it.send_signal(signal.SIGHUP)  # they are kept when the code is loaded again
            it.terminate()
            assert ended(it) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("m:app", ("localhost", 8080)),
        ("", ("localhost", 8080)),
        ("--port 9000 m:app", ("localhost", 9000)),
        ("--host 0.0.0.0 m:app", ("0.0.0.0", 8080)),
        ("--address-family AF_INET6 m:app", ("::1", 8080)),
        ("--host unix:/run/x --port 80 m:app", ("unix:/run/x", None)),
        ("--fd 3 m:app", (None, None)),
        ("--host fd://3 m:app", ("fd://3", None)),
    ],
)
def test_it_listens_where_chaussette_does(words: str, expected: tuple[str | None, int | None]) -> None:
    assert listen_of(*words.split(), environ={"PORT": "99"}) == expected


def test_sockets_that_were_handed_over_go_before_the_default_address() -> None:
    handed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}

    assert listen_of("m:app", environ=handed) == (None, None)
    assert listen_of("--port", "1", "m:app", environ=handed) == ("localhost", 1)
    assert listen_of("m:app", environ={**handed, "LISTEN_PID": "1"}) == ("localhost", 8080)


def test_a_wrong_word_is_named_by_this_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"did you mean '--port'\?$"):
        read_chaussette_line(["--prot", "5"], {})
    assert main(["--backend", "fastgevent", "--check"]) == 2
    assert "chaussette: error: backend 'fastgevent' is not served: gevent.wsgi is gone" in capsys.readouterr().err


def test_help_names_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # whatever the width of the terminal
    assert "listen at (8080)" in said
    assert "listen at (localhost)" in said


def test_the_package_has_the_command() -> None:
    project = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["chaussette"] == f"{main.__module__}:main"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_hooks_see_what_is_in_force_and_run_whatever_ends_it(folder: Path, number: signal.Signals) -> None:
    with bound() as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        words = ("--fd", str(fd), "--pre-hook", "site_c.before", "--post-hook", "site_c:after", "site_c:app", "one")
        with chaussette(*words, folder=folder, fds=(fd,)) as it:
            assert get(listener) == b"one"
            it.send_signal(number)
            assert ended(it) == 0
    assert (folder / "log").read_text() == f"before sync 127.0.0.1 {port} AF_INET ('one',)\nafter sync\n"


def test_a_post_hook_that_hangs_after_sigint_is_cut_at_the_graceful_timeout_or_by_a_second(folder: Path) -> None:
    words = ["--graceful-timeout", "60", "--post-hook", "site_c:slow", "site_c:app"]
    with serving(words, folder=folder) as worker:
        worker.request("GET", "/")
        worker.signal(signal.SIGINT)
        worker.await_line("ending at once")
        eventually((folder / "log").exists)
        worker.signal(signal.SIGINT)
        assert worker.ended() == 0
    with serving(["--graceful-timeout", "1.5", *words[2:]], folder=folder) as worker:
        worker.request("GET", "/")
        worker.signal(signal.SIGINT)
        worker.await_line("post-hook has not ended within the graceful timeout")
        assert worker.ended() == 75


def test_a_post_hook_that_fails_after_sigint_is_told(folder: Path) -> None:
    with serving(["--post-hook", "site_c:broken", "site_c:app"], folder=folder) as worker:
        worker.request("GET", "/")
        worker.signal(signal.SIGINT)
        worker.await_line("--post-hook 'site_c:broken' failed")
        assert worker.ended() == 3


def test_a_circus_file_with_chaussette_runs(folder: Path) -> None:
    config = (
        "[socket:web]\nhost = 127.0.0.1\nport = 0\n"
        "[watcher:web]\nuse_sockets = True\nnumprocesses = 2\ncopy_env = True\n"
        f"cmd = {' '.join(COMMAND)} --fd $(circus.sockets.web) --backend gevent site_c.app $(circus.numprocesses)\n"
    )
    with running(cwd=folder, config=config) as server:
        port = int(server.expect(r"listening at 127.0.0.1:(\d+)")[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"2"
