"""sd_notify both ways, and the descriptors that systemd hands over."""

from __future__ import annotations

import os
import select
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.unix.notify import Message, NotifySocket, notify, parse, take_listen_fds
from tests.support.spawning import spawn

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_assignments_are_read_and_other_lines_passed_over() -> None:
    assert parse(b"READY=1\nSTATUS=a=b\nnonsense\n\n=x\xff") == {"READY": "1", "STATUS": "a=b", "": "x\ufffd"}


ABSTRACT = f"@forkserve-test/{os.getpid()}"


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_message_comes_although_its_sender_has_gone(kind: str, tmp_path: Path) -> None:
    server = NotifySocket(ABSTRACT if kind == "abstract" else str(tmp_path / "1"))
    script = "from forkserve.unix.notify import notify; notify('READY=1\\nSTATUS=fine')"
    pid = spawn(SpawnSpec(argv=(sys.executable, "-c", script), env=os.environ | {"NOTIFY_SOCKET": server.address}))
    os.waitpid(pid, 0)
    assert select.select([server], [], [], 10)[0]
    messages = list(server.take())
    server.close()

    assert messages == [{"READY": "1", "STATUS": "fine"}]
    assert list(tmp_path.iterdir()) == []


def test_who_is_ready_waits_for_room() -> None:
    server = NotifySocket(ABSTRACT)
    environ = {"NOTIFY_SOCKET": server.address}
    while notify("STATUS=full", environ):
        pass
    assert not notify("READY=1", environ, patience=0.05)

    with ThreadPoolExecutor() as pool:
        told = pool.submit(notify, "READY=1", environ, patience=20.0)
        messages: list[Message] = []
        while {"READY": "1"} not in messages:
            assert select.select([server], [], [], 20)[0]
            messages += server.take()
        assert told.result()
    server.close()


def test_messages_come_in_order_and_a_flood_in_portions() -> None:
    server = NotifySocket(ABSTRACT)
    environ = {"NOTIFY_SOCKET": server.address}
    sent = 0
    while notify(f"STATUS={sent}", environ):
        sent += 1
    messages = []
    while portion := list(server.take()):
        assert len(portion) <= 64
        messages += portion
    server.close()

    assert [message["STATUS"] for message in messages] == [str(number) for number in range(sent)]


def test_a_descriptor_sent_along_does_not_stay() -> None:
    server = NotifySocket(ABSTRACT)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client, open(os.devnull) as file:
        client.connect(f"\0{server.address[1:]}")
        socket.send_fds(client, [b"FDSTORE=1"], [file.fileno()])
    (message,) = list(server.take())
    server.close()

    assert message == {"FDSTORE": "1"}


def test_without_a_supervisor_nothing_is_said() -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "vsock:2:1"})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "@forkserve-nobody"})


def test_a_supervisor_may_listen_at_a_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))

        assert notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert supervisor.recv(100) == b"READY=1"


TAKE = """
import os
from forkserve.unix.notify import take_listen_fds
os.environ.update({environ}, LISTEN_PID=str(os.getpid() + {off}))
print(take_listen_fds(), sorted(key for key in os.environ if key.startswith("LISTEN")))
"""


@pytest.mark.parametrize(
    ("environ", "off", "taken"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:admin"}, 0, {"web": 3, "admin": 4}),
        ({"LISTEN_FDS": "2"}, 0, {"unknown": 3, "unknown-4": 4}),
        ({"LISTEN_FDS": "9", "LISTEN_FDNAMES": "web"}, 0, {"web": 3, "unknown": 4}),
        ({"LISTEN_FDS": "2"}, 1, {}),
        ({"LISTEN_FDS": "many"}, 0, {}),
    ],
)
def test_descriptors_meant_for_us_are_taken_once(environ: dict[str, str], off: int, taken: dict[str, int]) -> None:
    reading, writing = os.pipe()
    with socket.socket() as one, socket.socket() as two:
        pid = spawn(
            SpawnSpec(
                argv=(sys.executable, "-c", TAKE.format(environ=environ, off=off)),
                env=os.environ,
                stdout=writing,
                fds={3: one.fileno(), 4: two.fileno()},
            )
        )
    os.close(writing)
    with open(reading) as output:
        text = output.read()
    os.waitpid(pid, 0)

    assert text == f"{taken} []\n"


def test_nothing_is_taken_where_nothing_was_given() -> None:
    assert take_listen_fds({}) == {}
