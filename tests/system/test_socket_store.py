"""The sockets outlive the master in the store of systemd: `systemctl restart` loses no connection that waits."""

from __future__ import annotations

import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually
from tests.support.serving import COMMAND
from tests.support.systemd import Systemd

APP = """
def app(environ, start):
    start("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
SOCKETS = """
[socket:web]
host = 127.0.0.1
port = 0
[socket:local]
path = {local}
"""
WATCHER = f"""
[watcher:web]
cmd = {COMMAND} --fd $(circus.sockets.web) --fd $(circus.sockets.local) app:app
use_sockets = True
copy_env = True
graceful_timeout = 5
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def listening(server: Forkserve, name: str = "web") -> tuple[str, int]:
    found = server.expect(rf"socket {name}: listening at (?:http://)?(.*):(\d+)$")
    server.expect(r"\[1\] pid \d+ (is ready|started: .*pause)")
    return found[1], int(found[2])


def waiting(address: tuple[str, int] | str) -> socket.socket:
    """Return a connection that waits, with its request, to be accepted."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    client = socket.socket(family)
    try:
        client.settimeout(20)
        client.connect(address)
        client.sendall(REQUEST)
    except OSError:
        client.close()
        raise
    return client


def is_answered(client: socket.socket) -> bool:
    with client:
        return client.makefile("rb").read().endswith(b"hello")


@pytest.mark.parametrize("room", [8, None])
def test_what_waits_between_a_stop_and_the_next_start_is_answered(place: Path, room: int | None) -> None:
    local = str(place / "local.sock")
    config = SOCKETS.format(local=local) + WATCHER
    with Systemd.manager(place, room) as systemd:
        with systemd.service(place, config) as server:
            address = listening(server)
            assert [name.split("@")[1] for name in systemd.names] == ["local", "web"]
            if room is None:  # nothing has said yet that there is a store; a crash leaves it all the same
                server.allow("SIGKILL")
                server.send(signal.SIGKILL)
                server.wait()
        for _ in range(1 if room else 2):  # of a store that has handed out once, it is known that there is one
            clients = [waiting(each) for each in (address, local) for _ in range(3)]
            with systemd.service(place, config) as server:
                server.expect_all("socket web: systemd has kept it", "socket local: systemd has kept it")
                assert listening(server) == address
                assert all(is_answered(each) for each in clients)
            assert len(systemd.names) == 2
        assert not [each for each in systemd.said if "FDPOLL" in each or "FDSTOREREMOVE" in each]


def test_a_stored_socket_that_the_configuration_has_elsewhere_is_closed(place: Path) -> None:
    sleeper = f"[watcher:a]\ncmd = {sys.executable} -S -c 'import signal; signal.pause()'\nready_after = 0.05\n"
    before, after = str(place / "before.sock"), str(place / "after.sock")
    with Systemd.manager(place) as systemd:
        with systemd.service(place, SOCKETS.format(local=before) + sleeper) as server:
            address = listening(server)
        moved = f"[socket:www]\nhost = {address[0]}\nport = {address[1]}\n[socket:local]\npath = {after}\n"
        client = waiting(address)
        with systemd.service(place, moved + sleeper) as server:
            server.expect_all("forkserve@local@.* no longer has: closed", "socket www: systemd has kept it")
            assert listening(server, "www") == address
            assert [name.split("@")[1] for name in systemd.names] == ["local", "www"]
            assert not Path(before).exists() and Path(after).exists()
            client.close()
        with systemd.service(place, sleeper) as server:
            server.expect("started: .*pause")
            assert systemd.names == [] and not Path(after).exists()
            with pytest.raises(ConnectionRefusedError):
                waiting(address)


def test_a_reload_has_the_store_follow(place: Path) -> None:
    first, second = str(place / "1.sock"), str(place / "2.sock")
    sleeper = f"[watcher:a]\ncmd = {sys.executable} -S -c 'import signal; signal.pause()'\nready_after = 0.05\n"
    with (
        Systemd.manager(place) as systemd,
        systemd.service(place, SOCKETS.format(local=first) + sleeper) as server,
    ):
        listening(server)
        eventually(lambda: systemd.names and {"READY": "1"} in systemd.said)
        before = systemd.names
        (place / "stack.ini").write_text(f"[socket:local]\npath = {second}\n" + sleeper)
        server.send(signal.SIGHUP)
        eventually(lambda: len(systemd.names) == 1)
        assert re.match("forkserve@local@", systemd.names[0]) and systemd.names[0] not in before
        assert all("FDSTORE" in each for each in systemd.said[:2]), "before it is ready"


def test_what_finds_no_room_in_the_store_is_closed_by_a_stop(place: Path) -> None:
    config = SOCKETS.format(local=place / "local.sock") + WATCHER
    with Systemd.manager(place, room=1) as systemd:
        with systemd.service(place, config) as server:
            server.expect("WARNING .*systemd keeps no more than 1 .FileDescriptorStoreMax=.; a restart closes this one")
            address = listening(server)
        assert systemd.names == ["forkserve@web"]
        waiting(address).close()
        assert not (place / "local.sock").exists()


def test_what_waits_in_the_queue_of_any_slot_is_answered_by_the_next_start(place: Path) -> None:
    config = "[socket:web]\nhost = 127.0.0.1\nport = 0\nso_reuseport = True\n" + WATCHER.replace(
        " --fd $(circus.sockets.local)", ""
    )
    with Systemd.manager(place) as systemd:
        with systemd.service(place, config + "numprocesses = 3\n") as server:
            server.allow("SIGKILL")
            found = server.expect(r"socket web: listening at http://(.*):(\d+)$")
            address = found[1], int(found[2])
            server.expect_all(*(rf"web\[{wid}\] pid \d+ is ready" for wid in (1, 2, 3)))
            assert [name.split("@slot")[1:] for name in systemd.names] == [[], ["2.1"], ["3.2"]]
            server.send(signal.SIGKILL)
            server.wait()
        clients = [waiting(address) for _ in range(12)]
        with systemd.service(place, config + "numprocesses = 2\n") as server:
            server.expect("socket web: systemd has kept it")
            assert all(is_answered(each) for each in clients)
            eventually(lambda: [name.split("@slot")[1:] for name in systemd.names] == [[], ["2.1"]])
