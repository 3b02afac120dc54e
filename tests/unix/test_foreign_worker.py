"""Workers under another interpreter: real processes on inherited sockets, with nothing of forkserve installed there."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from forkserve.backends.other_python.launch import FOLDER, interpreter
from forkserve.errors import BackendError, UsageError

APPLICATION = """
import os, sys, tempfile

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        with open(environ["QUERY_STRING"]) as pipe:
            pipe.read()
    text = "%d.%d %s" % (sys.version_info[0], sys.version_info[1], environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(text))), ("X-Pid", str(os.getpid()))])
    return [text.encode()]

def bad(environ, start_response):
    start_response("200 OK", [("X-Evil", "a\\r\\nX-Other: b")])
    return [b""]

def factory():
    return app

not_callable = 3
"""


def interpreters() -> list[str]:
    """This interpreter, and a 3.8 and a 3.9 where the machine has them."""
    found = [sys.executable]
    for minor in (8, 9):
        for path in (shutil.which(f"python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")):
            with suppress(UsageError):
                found.append(interpreter(str(path)))
                break
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


class Worker:
    """One foreign worker on a listener, ready."""

    def __init__(self, python: str, listener: socket.socket, folder: Path, *words: str) -> None:
        place = folder / f"notify-{len(list(folder.iterdir()))}"
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
            notified.bind(str(place))
            notified.settimeout(20)
            fd = listener.fileno()
            self.process = subprocess.Popen(
                [python, str(FOLDER), "--fd", str(fd), "--python-path", str(folder), *words],
                pass_fds=[fd],
                cwd=folder,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(place)},
            )
            try:
                assert notified.recv(100) == b"READY=1"
            except BaseException:
                self.end()
                raise

    def end(self) -> bytes:
        """Kill it if it still runs, and return what it wrote to stderr."""
        self.process.kill()
        return self.process.communicate()[1]


@contextmanager
def listening() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener, listener.getsockname()


def get(address: tuple[str, int], path: str = "/", method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request(method, path, headers={"Connection": "close"})
    return connection.getresponse()


def version_of(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("python", interpreters())
def test_it_serves_on_the_inherited_socket_and_leaves_with_0(python: str, folder: Path) -> None:
    with listening() as (listener, address):
        worker = Worker(python, listener, folder, "--backend", "wsgiref", "shop:app")
        try:
            with closing(get(address, "/here")) as answer:
                assert answer.read().decode() == f"{version_of(python)} /here"
            with closing(get(address, "/", "HEAD")) as answer:
                assert answer.read() == b""
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(20) == 0
        finally:
            worker.end()


def test_forkserve_worker_becomes_it_with_the_same_pid_in_the_folder_it_was_told(folder: Path) -> None:
    place = folder / "notify"
    with listening() as (listener, address), closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
        notified.bind(str(place))
        notified.settimeout(20)
        fd = listener.fileno()
        code = "import sys; from forkserve.cli.worker import main; sys.exit(main())"
        words = [
            "--fd",
            str(fd),
            "--python",
            sys.executable,
            "--backend",
            "wsgiref",
            "--chdir",
            folder.name,
            "shop:app",
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            pass_fds=[fd],
            cwd=folder.parent,
            env=os.environ | {"NOTIFY_SOCKET": str(place)},
        )
        try:
            assert notified.recv(100) == b"READY=1"
            with closing(get(address)) as answer:
                assert answer.getheader("X-Pid") == str(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("backend", ["wsgiref", "waitress", "gevent", "bjoern"])
def test_a_request_in_flight_at_sigterm_gets_its_answer(backend: str, folder: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    with listening() as (listener, address):
        worker = Worker(sys.executable, listener, folder, "--backend", backend, "shop:app")
        try:
            with closing(socket.create_connection(address, 20)) as client:
                client.sendall(f"GET /wait?{pipe} HTTP/1.0\r\n\r\n".encode())
                with pipe.open("w"):  # opens when the application reads it
                    worker.process.send_signal(signal.SIGTERM)
                with client.makefile("rb") as stream:
                    assert stream.read().endswith(b" /wait")
            assert worker.process.wait(20) == 0
        finally:
            worker.end()


def test_what_is_still_in_flight_after_the_graceful_timeout_is_cut_and_said(folder: Path) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    with listening() as (listener, address):
        words = ("--backend", "wsgiref", "--graceful-timeout", "0.1", "shop:app")
        worker = Worker(sys.executable, listener, folder, *words)
        try:
            with closing(socket.create_connection(address, 20)) as client:
                client.sendall(f"GET /wait?{pipe} HTTP/1.0\r\n\r\n".encode())
                with pipe.open("w"):
                    worker.process.send_signal(signal.SIGTERM)
                    assert worker.process.wait(20) == 75
        finally:
            assert b"graceful timeout" in worker.end()


def test_a_response_header_that_would_become_two_is_a_500(folder: Path) -> None:
    with listening() as (listener, address):
        worker = Worker(sys.executable, listener, folder, "--backend", "wsgiref", "shop:bad")
        try:
            with closing(get(address)) as answer:
                assert answer.status == 500
                assert answer.getheader("X-Other") is None
        finally:
            worker.end()


def test_several_interpreters_share_one_socket(folder: Path) -> None:
    with listening() as (listener, address), ExitStack() as stack:
        words = ("--backend", "wsgiref", "shop:factory()")
        workers = [Worker(python, listener, folder, *words) for python in interpreters()]
        for worker in workers:
            stack.callback(worker.end)
        for _ in range(40):
            with closing(get(address)) as answer:
                assert answer.status == 200
        for worker in workers:
            worker.process.send_signal(signal.SIGTERM)
        assert [worker.process.wait(20) for worker in workers] == [0] * len(workers)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--backend", "wsgiref", "nowhere:app"], 3, b"no module named 'nowhere'"),
        (["--backend", "wsgiref", "shop:nothing"], 3, b"'shop' has no 'nothing'"),
        (["--backend", "wsgiref", "shop:not_callable"], 3, b"not callable"),
        (["--backend", "wsgiref", "absent.py:app"], 3, b"no such file: absent.py"),
        (["--backend", "nothing", "shop:app"], 2, b"invalid choice"),
    ],
)
def test_a_mistake_is_one_line_and_a_true_exit_code(words: list[str], code: int, says: bytes, folder: Path) -> None:
    with listening() as (listener, _):
        command = [sys.executable, str(FOLDER), "--fd", str(listener.fileno()), *words]
        done = subprocess.run(command, pass_fds=[listener.fileno()], cwd=folder, capture_output=True, timeout=30)
    assert done.returncode == code
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_backend_that_is_not_installed_there_names_the_command_for_that_interpreter(folder: Path) -> None:
    with listening() as (listener, _):
        command = [
            sys.executable,
            "-I",
            "-S",
            str(FOLDER),
            "--fd",
            str(listener.fileno()),
            "--backend",
            "waitress",
            "shop:app",
        ]
        done = subprocess.run(command, pass_fds=[listener.fileno()], cwd=folder, capture_output=True, timeout=30)
    assert done.returncode == 78
    assert f"{sys.executable} -m pip install waitress".encode() in done.stderr


def test_an_interpreter_is_found_by_path_and_by_name() -> None:
    assert interpreter(sys.executable) == sys.executable


def test_an_interpreter_that_is_none_is_refused_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        interpreter(str(tmp_path / "python3.9"))
    (tmp_path / "plain").write_text("")
    with pytest.raises(UsageError, match="not executable"):
        interpreter(str(tmp_path / "plain"))
    with pytest.raises(UsageError, match="no Python interpreter"):
        interpreter("/bin/true")


def test_an_interpreter_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python2.7"
    old.write_text("#!/bin/sh\necho '[\"/usr/bin/python2.7\", 2, 7]'\n")
    old.chmod(0o755)
    with pytest.raises(BackendError, match=r"2\.7 is too old"):
        interpreter(str(old))
