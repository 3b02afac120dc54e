"""A change of the configuration is taken whole or not at all, sockets included, and loses nobody."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running
from tests.support.leases import unreadable
from tests.support.load import Load

APP = """
import os, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        open("entered", "w").close()
        while not os.path.exists("leave"):
            time.sleep(0.01)
    body = b"hello from %d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
BROKEN = "raise RuntimeError('this code is broken')\n"
BIN = Path(sys.executable).parent
SERVE = f"{BIN}/forkserve-worker --fd $(circus.sockets.NAME) APP:app"

ENDS_AT_ONCE = """
import select, signal, socket, sys
TERM = [signal.SIGTERM]
signal.pthread_sigmask(signal.SIG_BLOCK, TERM)
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
while True:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERM)
    select.select([listener], [], [])
    signal.pthread_sigmask(signal.SIG_BLOCK, TERM)
    try:
        conn, _ = listener.accept()
    except OSError:
        continue
    conn.setblocking(True)
    with conn:
        conn.recv(65536)
        conn.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nhello")
"""
"""Ends at SIGTERM between two requests, whatever else waits in the queue: the signal is let in only there."""


def socket_section(name: str, port: int, *more: str) -> str:
    return "\n".join([f"[socket:{name}]", "host = 127.0.0.1", f"port = {port}", *more, ""])


def watcher(name: str, *more: str, sock: str = "web", app: str = "app") -> str:
    command = SERVE.replace("NAME", sock).replace("APP", app)
    return "\n".join([f"[watcher:{name}]", f"cmd = {command}", "copy_env = True", "graceful_timeout = 10", *more, ""])


def free_ports(number: int) -> list[int]:
    """Return ports that nobody has: bound together, so that they differ, and none that connect(2) takes."""
    held: list[socket.socket] = []
    for port in range(20000 + os.getpid() % 400 * 25, 32000):
        sock = socket.socket()
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            sock.close()
            continue
        held.append(sock)
        if len(held) == number:
            break
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


def ask(port: int, path: str = "/") -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
        return client.makefile("rb").read().decode()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def reload(server: Forkserve, config: str) -> None:
    (Path(f"/proc/{server.pid}/cwd") / "stack.ini").write_text(config)
    server.send(signal.SIGHUP)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("backend", ["sync", "threads"])
def test_a_socket_that_is_renamed_under_load_loses_nobody(folder: Path, backend: str) -> None:
    (port,) = free_ports(1)
    one = socket_section("web", port) + watcher("web", "numprocesses = 2")
    two = socket_section("http", port) + watcher("web", "numprocesses = 2", sock="http")
    one, two = (text.replace("app:app", f"--backend {backend} app:app") for text in (one, two))
    with running(cwd=folder, config=one) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        with Load(("127.0.0.1", port)) as load:
            for config in (two, one, two):
                reload(server, config)
                server.expect("is renamed, with its queue")
                server.expect("web: 2 processes replaced")
                load.more(50)
    assert load.lost == []
    assert load.refused == 0


@pytest.mark.parametrize("numprocesses", [1, 2])
def test_a_port_that_moves_and_comes_back_under_load_loses_nobody(folder: Path, numprocesses: int) -> None:
    here, there = free_ports(2)
    web = watcher("web", f"numprocesses = {numprocesses}")
    with running(cwd=folder, config=socket_section("web", here) + web) as server:
        server.expect(rf"web\[{numprocesses}\] pid \d+ is ready")
        with Load(("127.0.0.1", here)) as old, Load(("127.0.0.1", here)) as load:
            for port in (there, here, there):
                reload(server, socket_section("web", port) + web)
                server.expect("socket web is rebound")
                server.expect("replaced")
                load.address = ("127.0.0.1", port)
                load.more(50)
            eventually(lambda: not is_open(here))
    assert load.lost == old.lost == []


@pytest.mark.slow
def test_a_program_that_knows_nothing_of_draining_reads_its_old_queue_to_the_end(folder: Path) -> None:
    here, there = free_ports(2)
    (folder / "once.py").write_text(ENDS_AT_ONCE)
    loop = f"[watcher:web]\ncmd = {sys.executable} -S once.py $(circus.sockets.web)\nready_after = 0.2\n"
    with running(cwd=folder, config=socket_section("web", here) + loop) as server:
        server.started("web[1]")
        with Load(("127.0.0.1", here), clients=8) as load:
            for port in (there, here):
                reload(server, socket_section("web", port) + loop)
                server.expect("socket web is rebound")
                server.expect("web: 1 process replaced")
                load.address = ("127.0.0.1", port)
                load.more(50)
    assert load.lost == []


def test_a_stop_in_the_middle_of_a_change_ends_all(folder: Path) -> None:
    here, there = free_ports(2)
    (folder / "hanging.py").write_text("import time\ntime.sleep(1000)\n")
    with running(cwd=folder, config=socket_section("web", here) + watcher("web")) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        reload(server, socket_section("web", there) + watcher("web", app="hanging"))
        server.expect("socket web is rebound")
        server.started("web[1]")

        assert server.stop() == 0


@pytest.mark.parametrize("numprocesses", [1, 3])
def test_an_address_that_becomes_wider_and_narrower_under_load_loses_nobody(folder: Path, numprocesses: int) -> None:
    (port,) = free_ports(1)
    narrow = socket_section("web", port) + watcher("web", f"numprocesses = {numprocesses}")
    wide = narrow.replace("host = 127.0.0.1", "host = 0.0.0.0")
    with running(cwd=folder, config=narrow) as server:
        server.expect(rf"web\[{numprocesses}\] pid \d+ is ready")
        with Load(("127.0.0.1", port)) as load:
            for config in (wide, narrow):
                reload(server, config)
                server.expect("socket web is rebound")
                server.expect("replaced")
                load.more(50)
    assert load.lost == []
    assert load.refused == 0


def test_sharing_of_the_port_is_switched_under_load_without_losing_anybody(folder: Path) -> None:
    (port,) = free_ports(1)
    web = watcher("web", "numprocesses = 2")
    with running(cwd=folder, config=socket_section("web", port) + web) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"web\[2\] pid \d+ is ready")
        with Load(("127.0.0.1", port)) as load:
            for value in ("True", "False"):
                reload(server, socket_section("web", port, f"so_reuseport = {value}") + web)
                server.expect(r"configuration read again: socket web changes \(so_reuseport\)$")
                server.expect("web: 2 processes replaced")
                load.more(50)
    assert load.lost == []
    assert load.refused == 0


def test_what_is_changed_of_a_socket_or_the_master_itself_is_told(folder: Path) -> None:
    (port,) = free_ports(1)
    web = socket_section("web", port) + watcher("web")
    with running(cwd=folder, config=web) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        reload(server, socket_section("web", port, "backlog = 7", "keep = False") + watcher("web"))
        server.expect(r"configuration read again: socket web changes \(backlog, keep\)$")
        reload(server, "[circus]\nwarmup_delay = 1\n" + web + "[socket:more]\npath = more.sock\n")
        server.expect(
            r"configuration read again: socket more is new; socket web changes \(backlog, keep\); "
            r"the master's own section changes \(warmup_delay\)$"
        )
        reload(server, web)
        server.expect(r"configuration read again: socket more goes; the master's own section changes \(warmup_delay\)$")
        reload(server, web)
        server.expect("nothing has changed")


def test_a_changed_port_goes_back_when_the_application_is_broken(folder: Path) -> None:
    here, there = free_ports(2)
    (folder / "broken.py").write_text(BROKEN)
    good = socket_section("web", here) + watcher("web")
    bad = socket_section("web", there) + watcher("web", app="broken")
    with running(cwd=folder, config=good) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("broken", "reload of web failed", "was taken back", "Traceback", "ended by SIGKILL.*restarting")
        with Load(("127.0.0.1", here)) as load:
            reload(server, bad)
            server.expect(r"the reload was taken back, the former configuration is in force \(web\): .*web\[1\]")
            eventually(lambda: not is_open(there))
            pid = int(ask(here).rpartition(" ")[2])
            load.more(20)
        assert load.lost == []
        assert load.refused == 0
        os.kill(pid, signal.SIGKILL)
        server.expect(r"web\[1\] pid \d+ is ready")
        assert "hello" in ask(here)
        reload(server, good)
        server.expect("configuration read again: nothing has changed")
        server.expect("web: 1 process replaced")
        assert "hello" in ask(here)


def test_an_abstract_socket_lets_nobody_in_before_somebody_reads_and_is_left_empty(folder: Path) -> None:
    here, there = (f"forkserve-test-{os.getpid()}-{end}" for end in ("here", "there"))
    (folder / "broken.py").write_text(BROKEN)
    good = f"[socket:web]\npath = @{here}\n" + watcher("web", "numprocesses = 2")
    moved = good.replace(f"@{here}", f"@{there}")
    with running(cwd=folder, config=good) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("broken", "given up", "was taken back", "Traceback")
        with Load(f"\0{here}") as load:
            load.address = f"\0{there}"
            reload(server, good + f"[socket:more]\npath = @{there}\n" + watcher("more", sock="more", app="broken"))
            server.expect("the reload was taken back")
            load.address = f"\0{here}"
            load.more(20)
            assert load.lost == []

            reload(server, moved)
            server.expect("web: 2 processes replaced")
            load.address = f"\0{there}"
            load.more(20)
            server.expect(f"socket web: closed at unix:@{here}$")
            load.address = f"\0{here}"
            reload(server, good)
            server.expect("web: 2 processes replaced")
            load.more(20)
        assert load.lost == []


def test_a_port_goes_back_while_an_old_request_still_runs_there(folder: Path) -> None:
    here, there = free_ports(2)
    with running(cwd=folder, config=socket_section("web", here) + watcher("web")) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        slow = socket.create_connection(("127.0.0.1", here), timeout=20)
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        eventually((folder / "entered").exists)
        reload(server, socket_section("web", there) + watcher("web"))
        server.expect("web: 1 process replaced")
        reload(server, socket_section("web", here) + watcher("web"))
        server.expect("socket web is rebound")
        server.expect("web: 1 process replaced")
        (folder / "leave").touch()

        assert "hello" in ask(here)
        with slow:
            assert b"hello" in slow.makefile("rb").read()
        eventually(lambda: not is_open(there))


def test_when_one_of_several_watchers_fails_the_others_go_back_too(folder: Path) -> None:
    one, two, three = free_ports(3)
    (folder / "broken.py").write_text(BROKEN)
    sockets = socket_section("web", one) + socket_section("api", two)
    good = sockets + watcher("web", "env.x = 1") + watcher("api", sock="api") + "[watcher:gone]\ncmd = sleep 1000\n"
    moved = sockets.replace(f"= {one}", f"= {three}")
    bad = moved + watcher("web", "max_age = 1000", "numprocesses = 2") + watcher("api", sock="api", app="broken")
    bad += "[watcher:new]\ncmd = sleep 1000\n"
    with running(cwd=folder, config=good) as server:
        server.expect_all(*(rf"{name}\[1\] pid \d+ is ready" for name in ("web", "api")), r"gone\[1\] pid")
        server.allow("broken", "reload of api failed", "was taken back", "Traceback")
        reload(server, bad)
        server.expect(r"the reload was taken back, .* \(.*web.*\): .*api\[1\]")
        reload(server, good)
        server.expect("configuration read again: nothing has changed")

        assert "hello" in ask(one)
        assert "hello" in ask(two)
        eventually(lambda: not is_open(three))
        eventually(lambda: len(server.children()) == 3)


def test_a_configuration_without_a_watcher_is_refused(folder: Path) -> None:
    (port,) = free_ports(1)
    with running(cwd=folder, config=socket_section("web", port) + watcher("web")) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("reload refused")
        for text in ("", socket_section("web", port)):
            reload(server, text)
            server.expect("ERROR .*reload refused, everything stays as it is: stack.ini: no watcher, nothing to run")
        assert "hello" in ask(port)


def test_a_configuration_that_cannot_be_read_to_its_end_holds_nobody_up(folder: Path) -> None:
    (port,) = free_ports(1)
    config = socket_section("web", port) + watcher("web")
    with running(cwd=folder, config=config) as server:
        pid = server.started("web[1]")
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("ended by SIGKILL.*restarting")
        with unreadable(folder / "stack.ini"):
            server.send(signal.SIGHUP)
            server.expect("SIGHUP: ")
            os.kill(pid, signal.SIGKILL)
            assert server.started("web[1]") != pid
            server.expect(r"web\[1\] pid \d+ is ready")
            server.send(signal.SIGHUP)
            server.expect("SIGHUP: ")
        for _ in range(2):
            server.expect("configuration read again: nothing has changed")
            server.expect("web: 1 process replaced")


def test_a_stop_ends_a_master_that_waits_for_its_configuration(folder: Path) -> None:
    with running(cwd=folder, config="[watcher:a]\ncmd = sleep 1000\n") as server:
        server.started("a[1]")
        with unreadable(folder / "stack.ini"):
            server.send(signal.SIGHUP)
            server.expect("SIGHUP: ")

            assert server.stop() == 0


def test_a_host_that_cannot_be_resolved_is_refused_and_changes_nothing(folder: Path) -> None:
    (port,) = free_ports(1)
    config = socket_section("web", port) + watcher("web")
    with running(cwd=folder, config=config) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        server.allow("reload refused")
        reload(server, config.replace("host = 127.0.0.1", "host = no-such-host.invalid"))
        server.expect("ERROR .*reload refused, everything stays as it is: .*(no-such-host.invalid|took longer)")

        assert "hello" in ask(port)


def test_a_socket_file_that_was_removed_is_made_again(folder: Path) -> None:
    path = folder / "web.sock"
    config = f"[socket:web]\npath = {path}\n" + watcher("web")
    with running(cwd=folder, config=config) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        with Load(str(path)) as load:
            path.unlink()
            server.send(signal.SIGHUP)
            server.expect("socket web is rebound")
            server.expect("web: 1 process replaced")
            load.more(20)
        assert load.lost == []
        eventually(path.exists)
    assert not path.exists()


def test_a_socket_path_that_moves_under_load_loses_nobody(folder: Path) -> None:
    one, two = folder / "one.sock", folder / "two.sock"
    config = f"[socket:web]\npath = {one}\n" + watcher("web")
    with running(cwd=folder, config=config) as server:
        server.expect(r"web\[1\] pid \d+ is ready")
        with Load(str(one)) as load:
            for path, other in ((two, one), (one, two)):
                reload(server, config.replace(str(one), str(path)))
                server.expect("web: 1 process replaced")
                load.address = str(path)
                load.more(50)
                eventually(lambda other=other: not other.exists())  # type: ignore[misc]
    assert load.lost == []


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6")
def test_ipv4_stays_when_its_socket_goes_and_another_takes_both(folder: Path) -> None:
    (port,) = free_ports(1)
    four = socket_section("four", port).replace("127.0.0.1", "0.0.0.0")
    six = socket_section("six", port).replace("127.0.0.1", "::")
    both = four + six + watcher("web", sock="six") + watcher("other", sock="four")
    with running(cwd=folder, config=both) as server:
        server.expect_all(r"web\[1\] pid \d+ is ready", r"other\[1\] pid \d+ is ready")
        with Load(("127.0.0.1", port)) as load:
            reload(server, six + watcher("web", sock="six"))
            server.expect_all("web: 1 process replaced", "other: stopping")
            load.more(50)
    assert load.lost == []
    assert load.refused == 0


def test_a_watcher_that_is_stopped_can_let_its_socket_go(folder: Path) -> None:
    (port,) = free_ports(1)
    config = socket_section("web", port, "keep = False") + watcher("web")
    control = folder / "control"
    with running("--control", str(control), cwd=folder, config=config) as server:
        server.expect(r"web\[1\] pid \d+ is ready")

        def ctl(verb: str) -> None:
            arguments = [f"{BIN}/forkservectl", "--socket", str(control), verb, "web"]
            assert os.spawnv(os.P_WAIT, arguments[0], arguments) == 0

        ctl("stop")
        eventually(lambda: not is_open(port))
        with socket.create_server(("127.0.0.1", port)):
            pass
        ctl("start")
        assert "hello" in ask(port)
