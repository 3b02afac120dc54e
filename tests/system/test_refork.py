"""Reforking: a worker that has served becomes the zygote, and the others are replaced by its children."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import ssl
from pathlib import Path

import pytest

from forkserve.supervision.os.loop import LIMIT
from tests.support.forkserving import Forkserve, descriptors, eventually, running
from tests.support.load import Load
from tests.support.tls import make_certificate
from tests.system.test_preload import ASGI_APP, SITE, SLOW, address_of, ask, ready, stack, workers, zygote_of

WARMED = SITE.replace("def facts():", "SERVED = []\ndef facts():\n    SERVED.append(os.getpid())").replace(
    '"load":', '"served": len(SERVED), "by": sorted(set(SERVED)), "load":'
)
ASGI = WARMED.replace("def app(", "def wsgi(") + ASGI_APP


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_p.py").write_text(WARMED)
    (tmp_path / "site_a.py").write_text(ASGI)
    return tmp_path


def reforked(server: Forkserve) -> int:
    """Wait for a worker to become the zygote; return its pid."""
    return int(server.expect(r"web zygote is pid (\d+) now, a worker before")[1])


BACKENDS = ["sync", *(pytest.param(each, marks=SLOW) for each in ("threads", "gevent", "asgi"))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_warm_worker_becomes_the_zygote_of_the_others(folder: Path, backend: str) -> None:
    app = "site_a:app" if backend == "asgi" else "site_p:app"
    config = stack(app=app, flags=f"-k {backend}", more="refork_after = 30")
    with running(cwd=folder, config=config) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        first = zygote_of(server)
        asking = load.enter_context(Load(address_of(server), clients=2))
        second = reforked(server)
        server.expect_all(
            rf"web zygote pid {first} exited with code 0",
            r"web keeps its zygote \(\d+ reforked\)|web zygote is pid \d+ now",
        )
        asking.more(20)
        load.close()
        assert asking.lost == []
        said = workers(server, 2)
        # what the worker had done before it became the zygote is done in its children, too
        assert all(second in each["by"] for each in said.values())
        assert all(each["parent"] == server.pid for each in said.values())
        eventually(lambda: len(server.children()) == 4)


def opened(pid: int) -> dict[str, int]:
    """Return how often a process has open what a worker opens once."""
    names = [os.path.basename(os.readlink(each)) for each in Path(f"/proc/{pid}/fd").iterdir()]
    kinds = {
        "stacks": "forkserve-stacks",
        "scoreboard": "forkserve-scoreboard",
        "log": "own.log",
        "access": "access.log",
    }
    return {kind: sum(name in each for each in names) for kind, name in kinds.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_that_becomes_the_zygote_gives_up_what_a_worker_has_open(folder: Path, backend: str) -> None:
    app = "site_a:app" if backend == "asgi" else "site_p:app"
    flags = f"-k {backend} --log-output own.log --access-log access.log"
    with running(cwd=folder, config=stack(app=app, flags=flags, more="refork_after = 10")) as server:
        ready(server, 2)
        fresh = opened(next(iter(workers(server, 2))))
        assert (fresh["stacks"], fresh["log"], fresh["access"]) == (1, 1, 1)
        with Load(address_of(server), clients=2):
            server.expect(r"web keeps its zygote \([1-9]")
        # while it forks, it holds what it hands to the child
        bare = {"stacks": 0, "scoreboard": 0, "log": 1, "access": 0}
        eventually(lambda: opened(reforks_of(server)[-1]) == bare)
        assert [opened(pid) for pid in workers(server, 2)] == [fresh, fresh]


def test_what_is_forked_later_comes_from_the_new_zygote_and_a_reload_begins_with_a_fresh_one(folder: Path) -> None:
    with running(cwd=folder, config=stack(processes=1, more="refork_after = 5")) as server:
        ready(server, 1)
        address = address_of(server)
        for _ in range(6):
            ask(address)
        second = reforked(server)
        eventually(lambda: second in ask(address)["by"])
        server.allow("SIGKILL")
        before = ask(address)
        os.kill(before["pid"], signal.SIGKILL)
        (after,) = workers(server, 1, without={before["pid"]: None}).values()
        assert second in after["by"]
        server.send(signal.SIGHUP)
        server.expect("web: 1 process replaced")
        eventually(lambda: second not in ask(address)["by"])


@SLOW
def test_workers_that_end_after_some_requests_are_forked_by_the_warmed_one(folder: Path) -> None:
    config = stack(flags="--max-requests 60", more="refork_after = 30")
    with running(cwd=folder, config=config) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        asking = load.enter_context(Load(address_of(server), clients=2))
        second = reforked(server)
        asking.more(300)
        load.close()
        assert (asking.lost, asking.refused) == ([], 0)
        assert all(second in each["by"] for each in workers(server, 2).values())


def test_a_worker_with_a_thread_does_not_become_the_zygote(folder: Path) -> None:
    thread = "\nimport threading\ndef rest():\n    threading.Event().wait()\n"
    code = (
        WARMED
        + thread
        + (
            "_app = app\n"
            "def app(environ, start):\n"
            "    if len(SERVED) == 3:\n"
            "        threading.Thread(target=rest, name='poller', daemon=True).start()\n"
            "    return _app(environ, start)\n"
        )
    )
    (folder / "site_p.py").write_text(code)
    with running(cwd=folder, config=stack(processes=1, more="refork_after = 10")) as server:
        ready(server, 1)
        server.allow("cannot become the zygote")
        for _ in range(12):
            ask(address_of(server))
        server.expect_all(
            r"web\[1\]: cannot become the zygote: 1 thread runs .*: poller \(rest\)",
            r"web keeps its zygote \(0 reforked\): a worker does not become the zygote",
        )
        assert ask(address_of(server))["imported_by"] == zygote_of(server)


def test_what_is_found_in_a_zygote_is_named(folder: Path) -> None:
    found = (
        "\nimport asyncio, socket, threading\n"
        "LISTENER = socket.create_server(('127.0.0.1', 0))\n"
        "CLIENT = socket.create_connection(LISTENER.getsockname())\n"
        "LOOP = asyncio.new_event_loop()\n"
        "def poll():\n    threading.Event().wait()\n"
        "threading.Thread(target=poll, name='exporter', daemon=True).start()\n"
    )
    (folder / "site_p.py").write_text(SITE + found)
    with running(cwd=folder, config=stack(processes=1)) as server:
        server.expect(r"web zygote: 1 thread runs in the zygote, and will in no worker: exporter \(poll\)")
        line = server.expect(r"web zygote: 4 sockets are open in the zygote, and shared by all workers: .*")[0]
        assert "bound to 127.0.0.1:" in line and "connected to 127.0.0.1:" in line
        server.expect(r"web zygote: 1 event loop is open in the zygote")
        ready(server, 1)


def test_hooks_are_called_around_a_fork_and_a_failing_one_costs_that_worker(folder: Path) -> None:
    hooks = (
        "\nCALLS = []\nimport pathlib\n"
        "def before(options):\n"
        "    CALLS.append(os.getpid())\n"
        "    if pathlib.Path('broken').exists(): raise RuntimeError('no fork today ' + 9000 * 'x')\n"
        "def after(options):\n"
        "    os.write(1, f'after {os.getppid()} {len(CALLS)} {options.application}\\n'.encode())\n"
    )
    (folder / "site_p.py").write_text(SITE + hooks)
    flags = "--before-fork site_p:before --after-fork site_p:after"
    with running(cwd=folder, config=stack(flags=flags, more="backoff = 0.1")) as server:
        server.expect_all(
            rf"after {server.pid} 1 site_p:app",
            rf"after {server.pid} 2 site_p:app",
            r"web\[1\] pid \d+ is ready",
            r"web\[2\] pid \d+ is ready",
        )
        server.allow("SIGKILL")
        (folder / "broken").touch()
        for pid in workers(server, 2):  # one is forked already
            os.kill(pid, signal.SIGKILL)
        server.expect(
            r"web\[\d\] cannot be forked: --before-fork 'site_p:before' failed: RuntimeError: no fork today x+;"
        )
        (folder / "broken").unlink()
        server.expect(r"web\[\d\] pid \d+ is ready")


@pytest.mark.parametrize("count", [2, pytest.param(200, marks=[SLOW, pytest.mark.timeout(900)])])
def test_descriptors_memory_and_processes_return_to_what_they_were(folder: Path, count: int) -> None:
    reforked_again_and_again(folder, count)


def reforked_again_and_again(folder: Path, count: int, backend: str = "sync", *, tls: bool = False) -> int:
    """Refork so often under load, each time after a reload, and compare what is held; returns the requests."""
    app, flags, context = "site_a:app" if backend == "asgi" else "site_p:app", f"-k {backend}", None
    if tls:
        cert, key = make_certificate(folder)
        flags, context = f"{flags} --certfile {cert} --keyfile {key}", ssl.create_default_context(cafile=cert)
        context.check_hostname = False
    config = stack(app=app, flags=flags, more="refork_after = 10\nstandby = False")
    env = {LIMIT: "0.5"}  # a machine that is busy for minutes holds the loop for longer than in a test of seconds
    with running(cwd=folder, config=config, env=env) as server, contextlib.ExitStack() as load:
        ready(server, 2)
        asking = load.enter_context(Load(address_of(server), clients=2, pause=0.001, tls=context))
        held = []
        while len(held) < 2 or len(reforks_of(server)) < count:
            server.expect(r"web keeps its zygote \([1-9]")
            eventually(lambda: len(server.children()) == 4)
            pids = [server.pid, *(each.pid for each in server.children())]
            held.append((descriptors(server.pid), descriptors(reforks_of(server)[-1]), sum(map(pss, pids))))
            server.send(signal.SIGHUP)
            server.expect("web: 2 processes replaced")
        load.close()
        assert asking.lost == []
        # what ends just now has descriptors still; what is lost by the round is more
        assert held[-1][0] <= held[0][0] + 6 and held[-1][1] <= held[0][1] + 2, held
        assert held[-1][2] <= 1.2 * held[1][2] + 5, held
    return asking.answered


def reforks_of(server: Forkserve) -> list[int]:
    """Return the pids of the workers that became zygotes, in their order."""
    found = (re.search(r"web zygote is pid (\d+) now", line) for line in server.lines)
    return [int(each[1]) for each in found if each]


def pss(pid: int) -> float:
    """Return the MiB of a process, with its share of what it shares; 0 of one that has just ended (proc(5))."""
    with contextlib.suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0
