"""meinheld for real: the mended build made from the package index's source, its refusals, and a mixed fleet.

The build needs a compiler and the index, and takes some 20 s for each interpreter: those tests are slow. What the
environment of the tests has already is tested at once.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from forkserve.backends.meinheld.contract import CHECKS, ContractError, check_build
from forkserve.backends.other_python.launch import interpreter
from forkserve.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
BUILD = "from forkserve.backends.meinheld.build import install; install(print)"
BUILD_UNMENDED = (
    "from forkserve.backends.meinheld.build import install; from forkserve.backends.meinheld.edits import BUILDING;"
    "install(print, edits=BUILDING)"
)
COMMAND = "import sys; from forkserve.cli.worker import main; sys.exit(main())"
APPLICATION = """
import sys

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        with open(environ["QUERY_STRING"]) as pipe:
            pipe.read()
    start_response("200 OK", [("Content-Length", "4"), ("X-Python", "%d.%d" % sys.version_info[:2])])
    return [b"done"]
"""


def find(minor: int) -> str | None:
    """Return a CPython 3.`minor` of this machine."""
    if sys.version_info[1] == minor:
        return sys.executable
    for path in (shutil.which(f"python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")):
        with suppress(UsageError):
            return interpreter(str(path))
    return None


def make_environment(folder: Path, minor: int) -> Path:
    """Make a virtual environment with pip, and return its interpreter."""
    python = find(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} on this machine")
    if minor == sys.version_info[1]:
        venv.create(folder, with_pip=True)
    else:
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"


def run(python: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` under `python` with this source tree on its path, and no other packages."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, env=env, timeout=280)


def has_meinheld(python: Path) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('meinheld') is None)"
    return subprocess.run([str(python), "-c", code]).returncode == 0


@pytest.fixture(scope="session", params=[11, 13])
def mended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the mended meinheld, built once."""
    python = make_environment(tmp_path_factory.mktemp("mended"), request.param)
    done = run(python, BUILD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"passed {len(CHECKS)} checks" in done.stdout
    assert "is installed in" in done.stdout
    return python


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python 3.9 with the original meinheld."""
    python = make_environment(tmp_path_factory.mktemp("original"), 9)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "meinheld==1.0.2"], check=True, capture_output=True, timeout=280)
    return python


class Worker:
    """One `forkserve-worker --python` on a listener, serving."""

    def __init__(self, python: Path | str, listener: socket.socket, folder: Path, *words: str) -> None:
        fd = str(listener.fileno())
        place = folder / f"notify-{len(list(folder.iterdir()))}"
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
            notified.bind(str(place))
            notified.settimeout(30)
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "--fd", fd, "--python", str(python), *words],
                pass_fds=[listener.fileno()],
                cwd=folder,
                env=os.environ | {"NOTIFY_SOCKET": str(place), "PYTHONPATH": str(ROOT)},
            )
            assert notified.recv(100) == b"READY=1"


@contextmanager
def listening() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener, listener.getsockname()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


def get(address: tuple[str, int]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/", headers={"Connection": "close"})
    return connection.getresponse()


def drain_in_flight(worker: Worker, address: tuple[str, int], pipe: Path) -> bytes:
    """Send TERM while a request waits on `pipe` and an idle connection is open; return the request's answer."""
    os.mkfifo(pipe)
    with closing(socket.create_connection(address, 30)) as idle, closing(socket.create_connection(address, 30)) as busy:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        busy.sendall(f"GET /wait?{pipe} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        with pipe.open("w"):  # opens when the application reads it
            worker.process.send_signal(signal.SIGTERM)
        with busy.makefile("rb") as stream:
            return stream.read()


HERE = importlib.util.find_spec("meinheld") is not None


@pytest.mark.skipif(not HERE, reason="no meinheld here: forkserve-worker --install-backend meinheld")
def test_the_meinheld_of_this_environment_keeps_the_contract(tmp_path: Path) -> None:
    with (tmp_path / "errors").open("wb") as errors:
        assert check_build(Path(sys.executable), errors) == len(CHECKS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_mended_build_keeps_the_contract_and_is_told_apart(mended: Path, tmp_path: Path) -> None:
    with (tmp_path / "errors").open("wb") as errors:
        assert check_build(mended, errors) == len(CHECKS)
    done = run(mended, "from importlib.metadata import version; print(version('meinheld'))")
    assert done.stdout.strip() == "1.0.2+forkserve.1"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_backend_accepts_the_mended_build(mended: Path) -> None:
    done = run(mended, "from forkserve.backends.meinheld import Meinheld; print(Meinheld.traits.probe())")
    assert done.stdout.strip() == "None", done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_mended_build_drains(mended: Path, folder: Path) -> None:
    with listening() as (listener, address):
        worker = Worker(mended, listener, folder, "--backend", "meinheld", "shop:app")
        assert drain_in_flight(worker, address, folder / "pipe").endswith(b"done")
        assert worker.process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_build_that_does_not_keep_the_contract_is_not_installed(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", sys.version_info[1])
    done = run(python, BUILD_UNMENDED)
    assert done.returncode != 0
    assert "does not pass its test and was not installed: big stream" in done.stderr
    assert not has_meinheld(python)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_the_index_or_with_a_broken_compiler_nothing_is_installed(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", sys.version_info[1])
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = run(python, BUILD, **nowhere)
    assert "no way to the package index" in done.stderr
    done = run(python, BUILD, CC="/bin/false")
    assert "the compilation failed" in done.stderr
    assert not has_meinheld(python)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_original_fails_the_contract_but_drains(original: Path, folder: Path) -> None:
    with pytest.raises(ContractError), (folder / "errors").open("wb") as errors:
        check_build(original, errors)
    with listening() as (listener, address):
        worker = Worker(original, listener, folder, "--backend", "meinheld", "shop:app")
        assert drain_in_flight(worker, address, folder / "pipe").endswith(b"done")
        assert worker.process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_original_on_3_9_and_the_mended_share_one_socket(original: Path, mended: Path, folder: Path) -> None:
    with listening() as (listener, address), ExitStack() as stack:
        workers = [
            Worker(original, listener, folder, "--backend", "meinheld", "shop:app"),
            Worker(mended, listener, folder, "--backend", "meinheld", "shop:app"),
            Worker(sys.executable, listener, folder, "--backend", "wsgiref", "shop:app"),
        ]
        for worker in workers:
            stack.callback(worker.process.wait)
            stack.callback(worker.process.kill)
        answers: Counter[str] = Counter()
        for _ in range(200):
            with closing(get(address)) as answer:
                assert (answer.status, answer.read()) == (200, b"done")
                answers[answer.getheader("X-Python", "")] += 1
        assert sum(answers.values()) == 200
        for worker in workers:
            worker.process.send_signal(signal.SIGTERM)
        assert [worker.process.wait(30) for worker in workers] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_original_is_refused_on_a_newer_python_with_both_ways_out(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", 11)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "greenlet"], check=True, capture_output=True, timeout=280)
    subprocess.run([*pip, "--no-deps", "meinheld==1.0.2"], check=True, capture_output=True, timeout=280)
    done = run(python, "from forkserve.backends.meinheld import Meinheld; print(Meinheld.traits.probe())")
    for words in ("the original meinheld 1.0.2", "Python 3.11", "--install-backend meinheld", "--python"):
        assert words in done.stdout, done.stderr
