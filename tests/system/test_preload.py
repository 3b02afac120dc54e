"""Preloading: a zygote imports the application once and forks the workers, which live and die like any other."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import commands
from tests.support.forkserving import Forkserve, descriptors, eventually, pause, running
from tests.support.load import Load
from tests.support.serving import PATIENCE

SLOW = pytest.mark.slow

SITE = """
import gc, json, os, sys
IMPORTED_BY = os.getpid()
os.environ["SET_BY_SITE"] = "yes"
def facts():
    return {
        "pid": os.getpid(), "parent": os.getppid(), "imported_by": IMPORTED_BY, "session": os.getsid(0),
        "wid": os.environ.get("FORKSERVE_WID"), "set": os.environ.get("SET_BY_SITE"), "argv": sys.argv[1:],
        "zygote": os.environ.get("FORKSERVE_ZYGOTE"), "version": VERSION,
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")), "frozen": gc.get_freeze_count(), "load": "hello",
    }
def app(environ, start):
    body = json.dumps(facts()).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
VERSION = 1
"""
ASGI_APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(facts()).encode()})
"""
STACK = """
[socket:web]
port = 0
[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.web) --keep-alive 0 {flags} {app}
use_sockets = True
copy_env = True
preload = True
numprocesses = {processes}
graceful_timeout = 5
{more}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_p.py").write_text(SITE)
    return tmp_path


def stack(*, app: str = "site_p:app", processes: int = 2, flags: str = "", more: str = "") -> str:
    return STACK.format(app=app, processes=processes, flags=flags, more=more)


def address_of(server: Forkserve) -> tuple[str, int]:
    found = server.first(r"socket web: listening at https?://(.*):(\d+)")
    return found[1], int(found[2])


def ask(address: tuple[str, int]) -> dict[str, Any]:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE)) as conn:
        conn.request("GET", "/")
        found: dict[str, Any] = json.loads(conn.getresponse().read())
        return found


def workers(server: Forkserve, count: int, *, without: Mapping[int, object] | None = None) -> dict[int, dict[str, Any]]:
    """Ask until so many workers have answered; return what they said, by pid."""
    address, found = address_of(server), dict[int, dict[str, Any]]()

    def enough() -> bool:
        said = ask(address)
        if said["pid"] not in (without or {}):
            found[said["pid"]] = said
        return len(found) >= count

    eventually(enough)
    return found


def ready(server: Forkserve, count: int) -> None:
    for _ in range(count):
        server.expect(r"web\[\d+\] pid \d+ is ready")


def ctl(folder: Path, *argv: str) -> str:
    done = commands.ctl(folder, "--socket", "ctl.sock", *argv)
    done.check_returncode()
    return done.stdout


def zygote_of(server: Forkserve) -> int:
    return int(server.first(r"web zygote pid (\d+) started")[1])


@pytest.mark.parametrize("backend", ["sync", pytest.param("threads", marks=SLOW), pytest.param("gevent", marks=SLOW)])
def test_the_application_is_imported_once_and_workers_are_children_of_the_master(folder: Path, backend: str) -> None:
    with running(cwd=folder, config=stack(flags=f"-k {backend}")) as server:
        ready(server, 2)
        zygote = zygote_of(server)
        for pid, said in workers(server, 2).items():
            assert (said["imported_by"], said["parent"], said["session"]) == (zygote, server.pid, pid)
            assert (said["set"], said["zygote"]) == ("yes", None)
            assert said["frozen"] > 1000
        assert {said["wid"] for said in workers(server, 2).values()} == {"1", "2"}


LATE = """
BEFORE = set()
os.register_at_fork(after_in_child=lambda: BEFORE.update(sys.modules))
"""


@pytest.mark.parametrize("backend", ["sync", "asgi", pytest.param("gevent", marks=SLOW)])
def test_a_forked_worker_imports_nothing_before_it_answers(folder: Path, backend: str) -> None:
    site = SITE.replace('"load":', '"late": sorted(set(sys.modules) - BEFORE), "load":') + LATE
    (folder / "site_p.py").write_text(site)
    (folder / "site_a.py").write_text(site.replace("def app(", "def wsgi(") + ASGI_APP)
    app = "site_a:app" if backend == "asgi" else "site_p:app"
    with running(cwd=folder, config=stack(app=app, processes=1, flags=f"-k {backend}")) as server:
        ready(server, 1)
        said = ask(address_of(server))
        assert (said["late"], said["imported_by"]) == ([], zygote_of(server))


@SLOW
def test_the_short_form_preloads(folder: Path) -> None:
    with running("--preload", "-w", "2", "-b", "127.0.0.1:0", "site_p:app", cwd=folder) as server:
        ready(server, 2)
        assert {said["imported_by"] for said in workers(server, 2).values()} == {zygote_of(server)}


def test_a_killed_worker_is_forked_again_by_the_same_zygote(folder: Path) -> None:
    with running(cwd=folder, config=stack()) as server:
        ready(server, 2)
        before = workers(server, 2)
        (folder / "site_p.py").write_text("raise ImportError('must not be imported again')")
        server.allow("SIGKILL")
        os.kill(next(iter(before)), signal.SIGKILL)
        (after,) = workers(server, 1, without=before).values()
        assert after["imported_by"] == zygote_of(server)
        assert after["wid"] == next(iter(before.values()))["wid"]


def test_a_zygote_that_dies_while_there_are_no_descriptors_comes_when_there_are(folder: Path) -> None:
    with running(cwd=folder, config=stack()) as server:
        server.allow("zygote")
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        first, usual = zygote_of(server), resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        os.kill(first, signal.SIGKILL)
        server.expect(r"web zygote cannot be started: .*; tried again in 1 s")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, usual)
        assert server.expect(r"web zygote pid (\d+) is ready")[1] != str(first)


def test_a_killed_zygote_is_started_again_while_workers_serve(folder: Path) -> None:
    with running(cwd=folder, config=stack()) as server:
        ready(server, 2)
        before = workers(server, 2)
        first = zygote_of(server)
        server.allow("SIGKILL")
        os.kill(first, signal.SIGKILL)
        server.expect(rf"web zygote pid {first} was ended by SIGKILL .*; restarting")
        second = int(server.expect(r"web zygote pid (\d+) is ready")[1])
        assert workers(server, 2).keys() == before.keys()
        os.kill(next(iter(before)), signal.SIGKILL)
        (after,) = workers(server, 1, without=before).values()
        assert after["imported_by"] == second


@SLOW
def test_without_a_zygote_workers_import_by_themselves(folder: Path) -> None:
    with running(cwd=folder, config=stack(more="backoff = 0.05")) as server:
        ready(server, 2)
        before = workers(server, 2)
        server.allow("SIGKILL", "no zygote any more", "error: cannot import|ImportError|Traceback")
        site = folder / "site_p.py"
        site.write_text(
            "import os\nif 'FORKSERVE_WID' in os.environ and os.environ['FORKSERVE_WID'] == '0': 1/0\n" + SITE
        )
        os.kill(zygote_of(server), signal.SIGKILL)
        server.expect("web has no zygote any more, which exited with code 3: new workers import the application")
        assert workers(server, 2).keys() == before.keys()
        os.kill(next(iter(before)), signal.SIGKILL)
        (after,) = workers(server, 1, without=before).values()
        assert after["imported_by"] == after["pid"]


@SLOW
def test_a_zygote_that_hangs_is_replaced(folder: Path) -> None:
    with running(cwd=folder, config=stack()) as server:
        ready(server, 2)
        before = workers(server, 2)
        first = zygote_of(server)
        server.allow("SIGKILL", "killed$")
        pause(first)
        os.kill(next(iter(before)), signal.SIGKILL)
        server.expect(rf"web zygote pid {first} did not fork within 5 s: killed")
        (after,) = workers(server, 1, without=before).values()
        assert after["imported_by"] not in (first, after["pid"])


def test_a_fork_that_dies_before_it_reports_costs_neither_time_nor_the_zygote(folder: Path) -> None:
    dying = "\nos.register_at_fork(after_in_child=lambda: os._exit(9) if os.path.exists('dying') else None)\n"
    (folder / "site_p.py").write_text(SITE + dying)
    with running(cwd=folder, config=stack(more="backoff = 0.1")) as server:
        ready(server, 2)
        zygote, before = zygote_of(server), workers(server, 2)
        server.allow("SIGKILL")
        (folder / "dying").touch()
        # one is forked already
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        server.expect(r"web\[\d\] cannot be forked: the process ended before it could report to the master")
        (folder / "dying").unlink()
        server.expect(r"web\[\d\] pid \d+ is ready")
        after = workers(server, 2, without=before).values()
        assert {each["imported_by"] for each in after} == {zygote}


def spare_of(server: Forkserve) -> int:
    """Wait until a process is forked ahead; return its pid."""

    def titles() -> dict[int, bytes]:
        return {each.pid: Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in server.children()}

    eventually(lambda: any(b" spare" in title for title in titles().values()))
    return next(pid for pid, title in titles().items() if b" spare" in title)


def test_a_process_that_is_forked_ahead_becomes_the_next_worker(folder: Path) -> None:
    with running(cwd=folder, config=stack()) as server:
        ready(server, 2)
        before, spare = workers(server, 2), spare_of(server)
        server.allow("SIGKILL")
        os.kill(next(iter(before)), signal.SIGKILL)
        (after,) = workers(server, 1, without=before).values()
        assert (after["pid"], after["session"], after["parent"]) == (spare, spare, server.pid)
        second = spare_of(server)
        os.kill(second, signal.SIGKILL)
        eventually(lambda: second not in [each.pid for each in server.children()])
        os.kill(spare, signal.SIGKILL)
        server.expect(r"web\[\d\] pid \d+ is ready")
        assert "cannot be forked" not in server.transcript()


@SLOW
def test_a_fork_that_hangs_before_it_reports_costs_the_zygote_and_no_other_worker(folder: Path) -> None:
    hanging = (
        "\nimport select\n"
        "def hang():\n    while os.path.exists('hanging'): select.select([], [], [], 0.05)\n"
        "os.register_at_fork(after_in_child=hang)\n"
    )
    (folder / "site_p.py").write_text(SITE + hanging)
    with running(cwd=folder, config=stack(processes=3, more="backoff = 0.1")) as server:
        ready(server, 3)
        zygote, before = zygote_of(server), workers(server, 3)
        spare_of(server)
        witness, *victims = before
        server.allow("SIGKILL", "killed$")
        (folder / "hanging").touch()
        # one is forked already, and the next one hangs
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        server.expect(r"web\[\d\] pid \d+ is ready")
        with Load(address_of(server)) as asking:
            server.expect(rf"web zygote pid {zygote} did not fork within 5 s: killed")
            (folder / "hanging").unlink()
            server.expect(r"web\[\d\] pid \d+ is ready")
            asking.more(20)
        assert (asking.lost, asking.refused) == ([], 0)
        after = workers(server, 3)
        assert after[witness]["imported_by"] == zygote, "the others have gone on"
        by = sorted(said["imported_by"] == zygote for said in after.values())
        assert by == [False, True, True], "a new zygote has forked the one that hung"
        eventually(lambda: len(server.children()) == 5)


def test_a_storm_of_kills_loses_only_what_the_killed_had(folder: Path) -> None:
    with running(cwd=folder, config=stack(processes=3)) as server, contextlib.ExitStack() as load:
        ready(server, 3)
        server.allow("SIGKILL")
        asking = load.enter_context(Load(address_of(server), clients=2))
        for kill in range(6):
            victim = zygote_of(server) if kill == 2 else ask(address_of(server))["pid"]
            os.kill(victim, signal.SIGKILL)
            server.expect(r"web zygote pid \d+ is ready" if kill == 2 else r"web\[\d\] pid \d+ is ready")
            asking.more(5)
        load.close()
        assert asking.refused == 0
        # two clients have two connections, and each of the five killed workers may have had both
        assert len(asking.lost) <= 10, asking.lost
        eventually(lambda: len(server.children()) == 5)  # a zygote and its spare


def test_an_upgraded_master_keeps_the_zygote_and_asks_it_again(folder: Path) -> None:
    with running("--control", "ctl.sock", cwd=folder, config=stack()) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        zygote, before = zygote_of(server), workers(server, 2)
        server.allow("SIGKILL")
        asking = load.enter_context(Load(address_of(server)))
        assert "upgraded: forkserve" in ctl(folder, "upgrade")
        asking.more(50)
        load.close()
        assert (asking.lost, asking.refused) == ([], 0)
        assert workers(server, 2).keys() == before.keys()
        os.kill(next(iter(before)), signal.SIGKILL)
        (after,) = workers(server, 1, without=before).values()
        assert (after["imported_by"], after["parent"]) == (zygote, server.pid)


def test_an_upgrade_waits_for_a_zygote_that_imports_so_that_its_reload_goes_on(folder: Path) -> None:
    with running("--control", "ctl.sock", cwd=folder, config=stack()) as server:
        ready(server, 2)
        (folder / "site_p.py").write_text(SITE + "import select\nselect.select((), (), (), 1.5)\n")
        server.send(signal.SIGHUP)
        server.expect(r"web: replacing 2 processes")
        assert "upgraded: forkserve" in ctl(folder, "upgrade")
        server.expect(r"web: 2 processes replaced")


def test_a_reload_takes_a_new_zygote_and_ends_the_old_one(folder: Path) -> None:
    with running(cwd=folder, config=stack(more="standby = False")) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        first, before = zygote_of(server), workers(server, 2)
        (folder / "site_p.py").write_text(SITE.replace("VERSION = 1", "VERSION = 2222"))
        asking = load.enter_context(Load(address_of(server)))
        server.send(signal.SIGHUP)
        server.expect_all(r"web: 2 processes replaced", rf"web zygote pid {first} exited with code 0")
        asking.more(50)
        load.close()
        assert (asking.lost, asking.refused) == ([], 0)
        after = workers(server, 2, without=before)
        assert {said["version"] for said in after.values()} == {2222}
        assert first not in {said["imported_by"] for said in after.values()}
        eventually(lambda: len(server.children()) == 4)


def test_a_rollback_has_the_former_zygote_fork_what_it_has_imported(folder: Path) -> None:
    with running("--control", "ctl.sock", cwd=folder, config=stack()) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        first, before = zygote_of(server), workers(server, 2)
        (folder / "site_p.py").write_text(SITE.replace("VERSION = 1", "VERSION = 2222"))
        ctl(folder, "reload", "web")
        assert {said["version"] for said in workers(server, 2, without=before).values()} == {2222}
        assert "web zygote: kept for a rollback" in ctl(folder, "status")
        second = int(server.first(rf"web zygote pid (?!{first}\b)(\d+) started")[1])
        ctl(folder, "upgrade")
        asking = load.enter_context(Load(address_of(server)))
        assert ctl(folder, "rollback", "web").strip() == "web: 2 processes replaced, back to generation 1"
        load.close()
        assert (asking.lost, asking.refused) == ([], 0)
        again = workers(server, 2)
        assert {(said["version"], said["imported_by"], said["parent"]) for said in again.values()} == {
            (1, first, server.pid)
        }
        server.expect(rf"web zygote pid {second} exited with code 0")
        assert "kept for a rollback" not in ctl(folder, "status")
        os.kill(next(iter(again)), signal.SIGKILL)
        server.allow("SIGKILL")
        (new,) = workers(server, 1, without=again).values()
        assert (new["version"], new["imported_by"]) == (1, first)


def test_a_zygote_that_was_kept_and_dies_is_not_started_again(folder: Path) -> None:
    with running("--control", "ctl.sock", cwd=folder, config=stack()) as server:
        ready(server, 2)
        first, before = zygote_of(server), workers(server, 2)
        ctl(folder, "reload", "web")
        after = workers(server, 2, without=before)
        server.allow("SIGKILL")
        os.kill(first, signal.SIGKILL)
        server.expect(rf"web zygote pid {first} was ended by SIGKILL")
        with pytest.raises(subprocess.CalledProcessError):
            ctl(folder, "rollback", "web")
        assert workers(server, 2).keys() == after.keys()
        eventually(lambda: len(server.children()) == 4)


def test_the_zygote_is_shown_and_not_counted(folder: Path) -> None:
    with running("--control", "ctl.sock", cwd=folder, config=stack()) as server:
        ready(server, 2)
        (web,) = json.loads(ctl(folder, "status", "--json"))
        assert [(each["wid"], each["state"], each.get("zygote", False)) for each in web["processes"]] == [
            (0, "zygote", True), (1, "ready", False), (2, "ready", False),
        ]  # fmt: skip
        assert ctl(folder, "numprocesses", "web").strip() == "2"
        assert ctl(folder, "numprocesses").strip() == "2"
        assert ctl(folder, "signal", "web", "USR1").strip() == "web: SIGUSR1 sent to 2 of 2"
        assert "a zygote tells no stacks" in ctl(folder, "stacks", "web[0]")
        zygote = zygote_of(server)
        ctl(folder, "kill", "web")
        ready(server, 2)
        assert zygote_of(server) == zygote


BROKEN = {
    "import error": ("import no_such_module_at_all", "exited with code 3"),
    "exits at import": ("import os; os._exit(7)", "exited with code 7"),
    "hangs in import": ("import time; time.sleep(60)", "not ready in time"),
    "never ready": (SITE + "import os\nos.register_at_fork(after_in_child=lambda: __import__('time').sleep(60))", ""),
    "dies when forked": (SITE + "import os\nos.register_at_fork(after_in_child=lambda: os._exit(9))", ""),
}


@pytest.mark.parametrize(
    "how", ["import error", *(pytest.param(how, marks=SLOW) for how in BROKEN if how != "import error")]
)
def test_a_broken_deploy_keeps_the_old_code(folder: Path, how: str) -> None:
    code, reason = BROKEN[how]
    more = f"ready_timeout = {5 if 'hangs' in how else 20}"
    with running(cwd=folder, config=stack(more=more)) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        before = workers(server, 2)
        server.allow("SIGKILL", "killed$", "ERROR", "Traceback")
        (folder / "site_p.py").write_text(code)
        asking = load.enter_context(Load(address_of(server)))
        server.send(signal.SIGHUP)
        server.expect(rf"reload of web failed, 2 processes kept as before: web\[1\] .*{reason}")
        asking.more(50)
        eventually(lambda: len(server.children()) == 4)
        assert workers(server, 2).keys() == before.keys()
        (folder / "site_p.py").write_text(SITE.replace("VERSION = 1", "VERSION = 3333"))
        server.send(signal.SIGHUP)
        server.expect(r"web: 2 processes replaced")
        assert {said["version"] for said in workers(server, 2, without=before).values()} == {3333}


@SLOW
def test_a_factory_that_raises_in_a_new_zygote_keeps_the_old_code(folder: Path) -> None:
    (folder / "site_p.py").write_text(SITE + "\ndef make():\n    return app\n")
    with running(cwd=folder, config=stack(app="site_p:make()")) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        before = workers(server, 2)
        server.allow("ERROR", "Traceback", "no database")
        (folder / "site_p.py").write_text(SITE + "\ndef make():\n    raise RuntimeError('no database')\n")
        asking = load.enter_context(Load(address_of(server)))
        server.send(signal.SIGHUP)
        server.expect(r"reload of web failed, 2 processes kept as before: web\[1\] .*exited with code 3")
        asking.more(50)
        load.close()
        assert (asking.lost, asking.refused) == ([], 0)
        assert workers(server, 2).keys() == before.keys()


def test_a_first_start_that_cannot_be_imported_ends_with_the_code_of_the_application(folder: Path) -> None:
    (folder / "site_p.py").write_text("import no_such_module_at_all")
    with running(cwd=folder, config=stack(processes=3)) as server:
        server.allow("ERROR", "CRITICAL", "Traceback")
        server.expect("no module named|No module named")
        assert server.wait() == 3


def test_nothing_outlives_a_master_that_is_killed(folder: Path) -> None:
    with running(cwd=folder, config=stack()) as server:
        ready(server, 2)
        server.allow(".")
        os.kill(server.pid, signal.SIGKILL)
        server.wait()


def test_a_stop_while_the_zygote_imports_leaves_nothing(folder: Path) -> None:
    (folder / "site_p.py").write_text("import time; time.sleep(60)")
    with running(cwd=folder, config=stack()) as server:
        server.expect(r"web zygote pid \d+ started")
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[watcher:x]\ncmd = sleep 5\npreload = True", "forkserve-worker alone can preload its application"),
        ("[watcher:x]\ncmd = forkserve-worker --reload a:b\npreload = True", "--reload has each worker load"),
        ("[watcher:x]\ncmd = forkserve-worker a:b\nshell = True\npreload = True", "a command in a shell"),
        ("[watcher:x]\ncmd = forkserve-worker --preload --python p a:b", "another interpreter"),
        ("[watcher:x]\ncmd = forkserve-worker a:b\nsend_hup = True\npreload = True", "send_hup"),
    ],
)
def test_what_cannot_preload_is_refused_in_one_line(tmp_path: Path, config: str, message: str) -> None:
    with running(cwd=tmp_path, config=config) as server:
        server.allow("error")
        server.expect(rf"stack.ini:\d+.*{message}")
        assert server.wait() == 78


@SLOW
def test_descriptors_do_not_pile_up(folder: Path) -> None:
    with running(cwd=folder, config=stack(processes=1)) as server:
        ready(server, 1)
        server.allow("SIGKILL")
        before = workers(server, 1)
        counts = []
        for _ in range(4):
            os.kill(next(iter(before)), signal.SIGKILL)
            server.expect(r"web\[1\] pid \d+ is ready")
            before = workers(server, 1, without=before)
            counts.append(
                (descriptors(server.pid), descriptors(zygote_of(server)), len(next(iter(before.values()))["fds"]))
            )
        assert counts[0] == counts[-1]
