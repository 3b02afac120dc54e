"""The master is replaced by other code in its own process: nothing of what it supervises notices, and a bad one changes
nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from forkserve.config.handover import PAGE
from forkserve.control.client import ControlClient
from forkserve.errors import ControlError
from tests.support import commands
from tests.support.forkserving import Forkserve, descriptors, eventually, pause, running
from tests.support.load import Load
from tests.support.serving import COMMAND
from tests.support.stacks import WRITER, put_app, put_writer, web

CONFIG = f"""
[circus]
pidfile = master.pid
{web(0)}{WRITER}ready_timeout = 20
"""
SLOW = """
[watcher:slow]
cmd = /bin/sh -c "trap '' TERM; echo trapped >&2; while :; do sleep 1000; done"
graceful_timeout = 300
"""
UPGRADED = r"upgraded: forkserve .* with \d+ process"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    put_app(tmp_path)
    put_writer(tmp_path, answers_usr1=True)
    return tmp_path


@contextlib.contextmanager
def upgradable(
    place: Path, config: str = CONFIG, *, last: str = "writer.* is ready", env: Mapping[str, str] | None = None
) -> Iterator[tuple[Forkserve, tuple[str, int]]]:
    """Run the stack until its web workers are ready and `last` is in the log; gives its address too."""
    with running("--control", str(place / "ctl.sock"), cwd=place, config=config, env=env) as server:
        server.allow("SIGKILL", r"slow\[1\].* killed$")
        found = server.expect(r"socket web: listening at http://(.*):(\d+)")
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready", last)
        yield server, (found[1], int(found[2]))


@contextlib.contextmanager
def begun(place: Path, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """Run forkservectl beside the test, and end it with the body."""
    command = [sys.executable, "-m", "forkserve.cli.ctl", "--socket", str(place / "ctl.sock"), *argv]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def client(place: Path, verb: str, **parameters: object) -> object:
    """Ask as forkservectl does."""
    with ControlClient(place / "ctl.sock", timeout=40) as client:
        return client.call(verb, **parameters)


def upgrade(place: Path, **parameters: object) -> None:
    answer = client(place, "upgrade", **parameters)
    assert isinstance(answer, dict) and "upgraded: forkserve" in answer["message"]


def ctl(place: Path, *argv: str) -> tuple[int, str, str]:
    """Run forkservectl; returns its code and what it has printed."""
    done = commands.ctl(place, "--socket", "ctl.sock", *argv)
    return done.returncode, done.stdout, done.stderr


def asked(address: tuple[str, int]) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=20)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def pids(server: Forkserve) -> set[int]:
    return {each.pid for each in server.children()}


def test_everything_goes_on_in_the_same_processes(place: Path) -> None:
    with upgradable(place, CONFIG + SLOW) as (server, address):
        server.rewound().expect("^trapped")
        before, fds = pids(server), descriptors(server.pid)
        with begun(place, "events", "-f", "-n", "1", "--json") as events, begun(place, "stop", "slow") as stop:
            assert events.stdout is not None
            server.expect(r"slow: stopping 1 process")
            first = json.loads(events.stdout.readline())["id"]

            upgrade(place)
            server.expect(UPGRADED)
            server.send(signal.SIGUSR2)
            server.expect(UPGRADED)

            assert asked(address) == b"hello"
            os.kill(server.rewound().started("slow[1]"), signal.SIGKILL)
            out, err = stop.communicate(timeout=20)
            assert (stop.returncode, out) == (0, "slow: stopped\n"), err
            done = 0
            while done < 2:
                event = json.loads(events.stdout.readline())
                first += 1
                assert event["id"] == first, "no event is missed by who follows them"
                done += event["kind"] == "upgrade.done"
        eventually(lambda: len(pids(server)) == 3 and pids(server) < before)
        assert (place / "master.pid").read_text() == f"{server.pid}\n"
        writer = server.rewound().started("writer[1]")
        os.kill(writer, signal.SIGUSR1)
        eventually(lambda: '["STATUS", "told"]' in ctl(place, "events", "--json", "writer")[1])
        eventually(lambda: descriptors(server.pid) <= fds)
        client(place, "reload", watcher="web")
        assert asked(address) == b"hello"
    lines = (place / "writer.log").read_text().splitlines()
    assert lines == [str(number) for number in range(len(lines))], "no line of captured output is lost"
    assert not (place / "master.pid").exists() and not (place / "ctl.sock").exists()


def script(place: Path, name: str, text: str) -> str:
    path = place / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


REAL = "import sys\nfrom forkserve.cli.master import main\nsys.exit(main())\n"
OTHER_VERSION = "import forkserve.bootstrap.statefile as file\nfile.VERSION = 99\n" + REAL
HANGS = "import signal\nsignal.pause()\n"
CRASHES = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
KNOWS_NO_UPGRADE = "import sys\nsys.exit('forkserve: error: unrecognized arguments: ' + sys.argv[1])\n"
FAILS_AT_LAST = """
import sys
import forkserve.bootstrap.upgrading as upgrading
def read(*_):
    raise RuntimeError("it was not foreseen")
if "--take-over" in sys.argv:
    upgrading.read = read
"""


FIRST = ("other", "hang", "late")
"""The cases that fail in different places: reading the state, rehearsing, and taking over."""


def bad_code(place: Path) -> dict[str, tuple[dict[str, object], str]]:
    """Return, by name, what to upgrade to, and why that fails."""
    return {
        "none": ({"exec": str(place / "none")}, "none': No such file"),
        "false": ({"python": "/bin/false"}, "exited with code 1, and said nothing"),
        "import": ({"exec": script(place, "import", "import nosuchmodule\n")}, "No module named 'nosuchmodule'"),
        "other": ({"exec": script(place, "other", OTHER_VERSION)}, "is version 1, .* reads version 99"),
        "older": ({"exec": script(place, "older", KNOWS_NO_UPGRADE)}, "unrecognized arguments: --rehearse-upgrade"),
        "crash": ({"exec": script(place, "crash", CRASHES)}, "was ended by SIGSEGV"),
        "hang": ({"exec": script(place, "hang", HANGS), "within": 0.5}, "did not say within 0.5 s that it can"),
        "late": ({"exec": script(place, "late", FAILS_AT_LAST + REAL)}, "RuntimeError: it was not foreseen"),
    }


@pytest.mark.parametrize("names", [FIRST, pytest.param(None, marks=pytest.mark.slow)], ids=["first", "all"])
def test_new_code_that_cannot_take_over_changes_nothing(place: Path, names: tuple[str, ...] | None) -> None:
    with upgradable(place) as (server, address):
        server.allow("the upgrade has failed")
        before = pids(server)
        cases = bad_code(place)
        for parameters, reason in (cases[name] for name in names or cases):
            with pytest.raises(ControlError, match=rf"everything stays as it is: .*{reason}"):
                client(place, "upgrade", **parameters)
            server.expect(rf"ERROR .* the upgrade has failed, everything stays as it is: .*{reason}")
            assert asked(address) == b"hello"
            eventually(lambda: pids(server) == before)
        (place / "stack.ini").write_text(CONFIG.replace("numprocesses = 2", "numprocesses = two"))
        code, _, err = ctl(place, "upgrade")
        assert code == 1 and "numprocesses" in err, err
        (place / "stack.ini").write_text(CONFIG)
        script(place, "good", REAL)
        assert ctl(place, "upgrade", "--exec", "good")[0] == 0
        eventually(lambda: pids(server) == before)
        assert asked(address) == b"hello"


def test_what_dies_and_what_is_asked_for_during_the_exec_is_not_lost(place: Path) -> None:
    wrapper = """
import os, sys
if "--take-over" in sys.argv:  # all signals are blocked here, and wait
    os.kill(int(open("victim").read()), 9)
    os.kill(os.getpid(), 10)
    os.waitid(os.P_PID, int(open("victim").read()), os.WEXITED | os.WNOWAIT)
"""
    with upgradable(place) as (server, address):
        victim = server.rewound().started("web[1]")
        (place / "victim").write_text(str(victim))
        upgrade(place, exec=script(place, "wrap", wrapper + REAL))
        server.expect(UPGRADED)
        server.expect_all(r"SIGUSR1: reopen log files", rf"web\[1\] pid {victim} was ended by SIGKILL")
        assert server.started("web[1]") != victim
        assert asked(address) == b"hello"


def test_a_reload_under_way_goes_on_and_its_client_gets_the_answer(place: Path) -> None:
    with upgradable(place) as (server, address):
        old = {server.rewound().started("web[1]"), server.started("web[2]")}
        with (place / "app.py").open("a") as app:
            app.write("import select\nselect.select((), (), (), 0.8)\n")
        with begun(place, "reload", "web") as reload:
            server.expect(r"web: replacing|web\[1\] pid \d+ started")
            upgrade(place)
            server.expect(UPGRADED)
            out, err = reload.communicate(timeout=30)
            assert (reload.returncode, out) == (0, "web: 2 processes replaced\n"), err
        assert asked(address) == b"hello"
        eventually(lambda: not pids(server) & old)


def test_a_stopped_child_and_a_socket_of_before_are_kept_and_a_stop_ends_all(place: Path) -> None:
    with upgradable(place, CONFIG + SLOW) as (server, address):
        slow, second = server.rewound().started("slow[1]"), server.started("web[2]")
        pause(second)
        waiting = [socket.create_connection(address, timeout=20) for _ in range(3)]
        upgrade(place)
        for each in waiting:
            with each:
                each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert b"hello" in each.makefile("rb").read()
        assert second in pids(server)
        os.kill(second, signal.SIGCONT)
        with begun(place, "quit") as quit:
            server.expect(r"slow: stopping")
            with pytest.raises(ControlError, match="forkserve is stopping"):
                client(place, "upgrade")
            os.kill(slow, signal.SIGKILL)
            assert quit.wait(20) == 0
        assert server.wait() == 0


SLOW_RESPONDER = f"""
import os, select
for _ in range(2000 if {PAGE!r} in os.environ else 0):
    if os.path.exists("go"):
        break
    select.select((), (), (), 0.01)
"""


def test_maintenance_that_begins_has_its_client_answered_by_the_new_code(place: Path) -> None:
    (place / "sitecustomize.py").write_text(SLOW_RESPONDER)
    with upgradable(place, f"{CONFIG}[env:web]\nPYTHONPATH = {place}\n") as (server, address):
        with begun(place, "maintenance", "on") as on:
            server.expect(r"web:maintenance\[1\] pid \d+ started")
            upgrade(place)
            (place / "go").touch()
            out, err = on.communicate(timeout=20)
            assert on.returncode == 0, (out, err)
        assert asked(address) != b"hello"
        client(place, "maintenance", switch="off")
        assert asked(address) == b"hello"


TWO = f"""
[socket:two]
host = 127.0.0.1
port = 0
[watcher:two]
cmd = {COMMAND} --fd $(circus.sockets.two) app:app
use_sockets = True
copy_env = True
"""


def said_to(systemd: socket.socket) -> list[str]:
    """Return what systemd has been told since it was last asked, of readiness and reloads."""
    said = []
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(systemd.recv(4096, socket.MSG_DONTWAIT).decode())
    return [each for each in said if each.startswith(("READY=", "RELOADING="))]


def test_pauses_drains_and_the_status_server_outlive_it_and_systemd_is_told(place: Path) -> None:
    argv = ("--control", str(place / "ctl.sock"), "--status-bind", f"unix:{place / 'status.sock'}")
    environ = {"NOTIFY_SOCKET": str(place / "systemd")}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        contextlib.ExitStack() as stack,
    ):
        systemd.bind(environ["NOTIFY_SOCKET"])
        server = stack.enter_context(running(*argv, cwd=place, config=CONFIG + TWO, env=environ))
        ports = [int(server.expect(rf"socket {name}: listening at http://.*:(\d+)")[1]) for name in ("web", "two")]
        for _ in range(4):
            server.expect(r"\[\d\] pid \d+ is ready")
        eventually(lambda: said_to(systemd)[-1:] == ["READY=1"])
        client(place, "pause", watcher="web", max=300)
        client(place, "drain", watcher="two")
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for port in ports]
        for each in held:
            each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        upgrade(place)
        said = list[str]()
        eventually(lambda: said.extend(said_to(systemd)) or len(said) >= 2)
        begun_at, ready = said
        assert ready == "READY=1" and re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", begun_at)
        assert readiness(place) == (503, b"web: drained, accepts nothing\ntwo: drained, accepts nothing\n")
        assert not select.select(held, (), (), 0)[0]
        client(place, "resume", watcher="web")
        client(place, "undrain", watcher="two")
        for each in held:
            assert b"".join(iter(partial(each.recv, 4096), b"")).endswith(b"hello")
        eventually(lambda: readiness(place) == (200, b"ok\n"))


def readiness(place: Path) -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(place / "status.sock"))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = sock
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_nothing_is_lost_when_the_master_is_replaced_under_load(place: Path) -> None:
    with upgradable(place) as (server, address):
        before = pids(server)
        with Load(address, clients=3) as load:
            upgrade(place)
            load.more(20)
        assert (load.lost, load.refused) == ([], 0)
        eventually(lambda: pids(server) == before)
