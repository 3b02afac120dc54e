"""forkserve-worker as a user meets it: good and bad words, signals, reload, exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.serving import COMMAND, Gate, Served, bound, run_worker, serving, start

APP = """\
import os

def gate():
    enter, leave = map(int, os.environ["GATE"].split(","))
    os.write(enter, b".")
    os.read(leave, 1)

def app(environ, start_response):
    body = b"one"
    if environ["PATH_INFO"] == "/slow":
        gate()
    if environ["PATH_INFO"] == "/fork":
        import select, signal
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b".")
            while True:
                select.select([], [], [], 0.05)
        os.read(read, 1)
        os.kill(pid, signal.SIGTERM)
        body = str(os.waitpid(pid, 0)[1]).encode()
    if environ["PATH_INFO"] == "/title":
        body = open("/proc/self/cmdline", "rb").read().strip(b"\\0")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


SERVE = ("-k", "wsgiref", "site_w:app")
"""What is tested here is the worker's own life, which is the same whatever serves."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_w.py").write_text(APP)
    return tmp_path


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with contextlib.closing(bound()) as listener:
        yield listener


def _closed(folder: Path) -> tuple[int, Callable[[], None]]:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    return read, lambda: None


def _pipe(folder: Path) -> tuple[int, Callable[[], None]]:
    read, write = os.pipe()
    return read, lambda: (os.close(read), os.close(write), None)[-1]


def _datagram(folder: Path) -> tuple[int, Callable[[], None]]:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return made.fileno(), made.close


def _not_listening(folder: Path) -> tuple[int, Callable[[], None]]:
    made = socket.socket()
    return made.fileno(), made.close


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_closed, "no descriptor {fd} is open here"),
        (_pipe, "descriptor {fd} is a pipe, not a socket"),
        (_datagram, "SOCK_DGRAM"),
        (_not_listening, "does not listen"),
    ],
)
def test_a_descriptor_that_is_no_listening_socket_is_named(
    folder: Path, make: Callable[[Path], tuple[int, Callable[[], None]]], said: str
) -> None:
    fd, close = make(folder)
    try:
        fds = [] if make is _closed else [fd]
        outcome = run_worker("--fd", str(fd), "site_w:app", folder=folder, fds=fds)
    finally:
        close()
    assert outcome.status == 2
    assert said.format(fd=fd) in outcome.error


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--fd", "", "site_w:app"], 2, "quote it: --fd '$(circus.sockets.web)'"),
        (["--fd", "site_w:app"], 2, "quote it: --fd '$(circus.sockets.web)'"),
        (["--fd", "$(circus.sockets.web)", "site_w:app"], 2, "only forkserve puts a number in place of it"),
        (["--bind", "127.0.0.1:0"], 2, "no application given"),
        (["--bind", "nonsense", "site_w:app"], 2, "--bind: expected HOST:PORT"),
        (["--bind", "127.0.0.1:0", "nowhere:app"], 3, "no module named 'nowhere'"),
        (["--bind", "127.0.0.1:0", "site_w:nothing"], 3, "has no attribute 'nothing'"),
        (["--bind", "127.0.0.1:0", "site_w:os"], 3, "is a module"),
        (["--bind", "127.0.0.1:0", "-k", "eventlet", "site_w:app"], 2, "use gevent"),
        (["--bind", "127.0.0.1:0", "-k", "uvicorn", "site_w:app"], 78, "is WSGI, which backend uvicorn does not serve"),
        (["--bind", "unix:/nowhere/x.sock", "site_w:app"], 69, "/nowhere"),
        (["--chdir", "/nowhere", "site_w:app"], 2, "--chdir"),
        (["--bind", "127.0.0.1:0", "--pre-hook", "site_w:nothing", "site_w:app"], 3, "has no attribute 'nothing'"),
        (["--log-output", "/nowhere/x.log", "site_w:app"], 2, "--log-output /nowhere/x.log"),
        (["--thread", "4", "site_w:app"], 2, "did you mean '--threads'"),
    ],
)
def test_a_mistake_is_one_clear_line_and_the_right_code(folder: Path, words: list[str], status: int, said: str) -> None:
    outcome = run_worker(*words, folder=folder)
    assert said in outcome.error
    assert outcome.status == status
    assert "Traceback" not in outcome.stderr


def test_a_port_in_use_is_said_so(folder: Path, sock: socket.socket) -> None:
    outcome = run_worker("--bind", f"127.0.0.1:{sock.getsockname()[1]}", "site_w:app", folder=folder)
    assert outcome.status == 69
    assert "in use" in outcome.error


def test_only_the_users_own_traceback_is_shown(folder: Path) -> None:
    (folder / "site_x.py").write_text("import json\njson.loads('{')\n")
    outcome = run_worker("--bind", "127.0.0.1:0", "site_x:app", folder=folder)
    assert outcome.status == 3
    assert "site_x.py" in outcome.stderr.splitlines()[1]
    assert "forkserve/" not in outcome.stderr
    assert "cannot import 'site_x': JSONDecodeError" in outcome.error


def test_the_list_of_backends_is_for_people_and_programs(folder: Path) -> None:
    table = run_worker("--list-backends", folder=folder)
    rows = {row["name"]: row for row in json.loads(run_worker("--list-backends", "--json", folder=folder).stdout)}
    assert (table.status, rows["wsgiref"]["usable"]) == (0, True)
    assert "for development" in table.stdout
    assert {"sync", "gevent", "meinheld", "waitress", "uvicorn"} <= rows.keys()


def test_check_loads_the_application_and_serves_nothing(folder: Path) -> None:
    outcome = run_worker("--check", "site_w:app", folder=folder)
    assert (outcome.status, outcome.stdout) == (0, "site_w:app: fine (wsgi, served by sync)\n")


def test_help_has_every_group(folder: Path) -> None:
    text = run_worker("--help", folder=folder).stdout
    for group in ("application:", "sockets:", "time limits:", "behind a proxy:", "exit codes:", "--fd N"):
        assert group in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_process_says_who_it_is(folder: Path) -> None:
    names = {"FORKSERVE_WATCHER": "web", "FORKSERVE_WID": "3"}
    with serving(SERVE, folder=folder, environ=names) as worker:
        _, body = worker.request("GET", "/title")
        worker.await_line("web[3]: serving site_w:app (wsgi) by wsgiref at http://127.0.0.1:")
    assert body == b"forkserve: worker web[3] wsgiref site_w:app"


def test_readiness_is_told_once_it_serves(folder: Path, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.settimeout(20)
        notified.bind(address)
        with serving(SERVE, folder=folder, environ={"NOTIFY_SOCKET": address}) as worker:
            assert notified.recv(100) == b"READY=1"
            worker.signal(signal.SIGTERM)
            assert notified.recv(100) == b"STOPPING=1"
            assert worker.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_what_outlasts_the_graceful_timeout_is_cut_and_the_code_tells(folder: Path, number: signal.Signals) -> None:
    with contextlib.closing(Gate()) as gate:
        with serving(["--graceful-timeout", "200ms", *SERVE], folder=folder, gate=gate) as worker:
            client = worker.connect()
            client.request("GET", "/slow")
            gate.entered()
            worker.signal(number)
            assert worker.ended() == 75
            client.close()
        assert b"were cut after the graceful timeout of 0.2 s" in worker.log


def test_an_interrupt_ends_at_once(folder: Path) -> None:
    with contextlib.closing(Gate()) as gate, serving(SERVE, folder=folder, gate=gate) as worker:
        client = worker.connect()
        client.request("GET", "/slow")
        gate.entered()
        worker.signal(signal.SIGINT)
        assert worker.ended() == 0
        client.close()


def test_a_process_that_the_application_forks_takes_its_own_signals(folder: Path) -> None:
    with serving(SERVE, folder=folder) as worker:
        _, status = worker.request("GET", "/fork")
        assert os.WTERMSIG(int(status)) == signal.SIGTERM
        assert worker.request("GET", "/")[1] == b"one"


def test_hangup_loads_the_code_anew_in_the_same_process(folder: Path) -> None:
    with serving(SERVE, folder=folder) as worker:
        assert worker.request("GET", "/")[1] == b"one"
        (folder / "site_w.py").write_text(APP.replace('b"one"', 'b"two, and longer"'))
        worker.signal(signal.SIGHUP)
        worker.await_line("draining (SIGHUP)")
        worker.await_line("serving")
        assert eventually(worker, b"two, and longer")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_hangup_leaves_the_old_code_serving_if_the_new_is_broken(folder: Path) -> None:
    with serving(SERVE, folder=folder) as worker:
        assert worker.request("GET", "/")[1] == b"one"
        (folder / "site_w.py").write_text("import surely_not_there\n")
        worker.signal(signal.SIGHUP)
        worker.await_line("the new code cannot be loaded")
        assert worker.request("GET", "/")[1] == b"one"
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def eventually(worker: Served, wanted: bytes) -> bool:
    """Ask until the new code answers: a request that the old code had accepted still gets the old answer."""
    return any(worker.request("GET", "/")[1] == wanted for _ in range(200))


@pytest.mark.parametrize("with_watchfiles", [True, False])
def test_a_changed_file_is_loaded_anew_and_a_broken_one_waited_for(folder: Path, with_watchfiles: bool) -> None:
    environ = {} if with_watchfiles else {"FORKSERVE_RELOADER": "stat"}
    with serving(["--reload", *SERVE], folder=folder, environ=environ) as worker:
        assert worker.request("GET", "/")[1] == b"one"
        worker.await_line("watching")
        (folder / "site_w.py").write_text("broken(\n")
        worker.await_line("waiting for a change")
        (folder / "site_w.py").write_text(APP.replace('b"one"', 'b"three"'))
        assert worker.request("GET", "/")[1] == b"three"
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_hooks_run_around_the_serving(folder: Path) -> None:
    (folder / "site_h.py").write_text(
        "def before(options): open('log', 'a').write(f'before {options.backend} ')\n"
        "def after(options): open('log', 'a').write('after')\n"
    )
    words = ["-k", "wsgiref", "--pre-hook", "site_h:before", "--post-hook", "site_h.after", "site_w:app"]
    with serving(words, folder=folder) as worker:
        worker.request("GET", "/")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert (folder / "log").read_text() == "before wsgiref after"


def test_gevent_is_patched_in_before_the_application_is_imported(folder: Path) -> None:
    (folder / "site_g.py").write_text(
        APP.replace('b"one"', "MODULE") + "\nimport socket\nMODULE = socket.socket.__module__.encode()\n"
    )
    with serving(["-k", "gevent-pywsgi", "site_g:app"], folder=folder) as worker:
        assert worker.request("GET", "/")[1].startswith(b"gevent")


def test_sockets_come_by_listen_fds_too(folder: Path) -> None:
    """sd_listen_fds(3) wants the receiver's own pid in the variable, so what becomes the worker sets it."""
    with contextlib.closing(bound()) as listener:
        script = (
            f"import os; os.dup2({listener.fileno()}, 3); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
            f"os.execv({COMMAND!r}, {[COMMAND, *SERVE]!r})"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=folder, pass_fds=[listener.fileno()], stderr=subprocess.PIPE
        )
        worker = Served(process, listener)
        try:
            assert worker.request("GET", "/")[1] == b"one"
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def test_log_files_are_opened_anew_at_sigusr1(folder: Path) -> None:
    with serving(["--log-output", "w.log", *SERVE], folder=folder) as worker:
        worker.request("GET", "/")
        (folder / "w.log").rename(folder / "w.log.1")
        worker.signal(signal.SIGUSR1)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert "serving" in (folder / "w.log.1").read_text()
    assert "draining" in (folder / "w.log").read_text()


def test_a_worker_leaves_after_so_many_requests(folder: Path) -> None:
    with serving(["--max-requests", "3", *SERVE], folder=folder) as worker:
        for _ in range(3):
            assert worker.request("GET", "/")[1] == b"one"
        assert worker.ended() == 0
    assert b"draining (3 requests served)" in worker.log


def test_its_own_unix_socket_is_removed_at_the_end(folder: Path, sock: socket.socket) -> None:
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen([COMMAND, "--bind", "unix:own.sock", *SERVE], cwd=folder, stderr=subprocess.PIPE)
        stack.callback(process.wait)
        stack.callback(process.kill)
        worker = Served(process, sock)
        worker.await_line("serving site_w:app (wsgi) by wsgiref at unix:own.sock")
        assert (folder / "own.sock").exists()
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        assert not (folder / "own.sock").exists()
        assert process.stderr is not None
        process.stderr.close()


def test_nothing_but_its_sockets_and_log_stays_open(folder: Path, sock: socket.socket) -> None:
    served = start(sock, SERVE, folder=folder)
    try:
        served.request("GET", "/")
        kinds = [
            os.readlink(f"/proc/{served.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{served.process.pid}/fd")
        ]
    finally:
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert served.process.stderr is not None
        served.process.stderr.close()
    assert len([kind for kind in kinds if kind.startswith("socket:")]) <= 3


@pytest.mark.parametrize("backend", ["sync", "threads"])
def test_a_body_for_which_the_disk_has_no_room_is_refused_and_nothing_else_is_harmed(
    folder: Path, backend: str
) -> None:
    (folder / "site_d.py").write_text(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n" + APP
    )
    with serving(["-k", backend, "--body-in-memory", "1000", "site_d:app"], folder=folder) as worker:
        for _ in range(2):
            response, _body = worker.request("POST", "/", b"x" * 50_000)
            assert response.status == 503
            worker.await_line("a body of 50000 bytes and more cannot be kept, refused: [Errno 27] File too large")
        assert worker.request("POST", "/", b"x" * 900)[1] == b"one"
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
