"""The control API by TCP: with a token, over TLS, and for no page of another site."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, running
from tests.support.tls import make_certificate

TOKEN = "a-token-of-many-characters"
CONFIG = """
[circus]
control_bind = 127.0.0.1:0
control_token = {place}/token
control_certfile = {place}/cert.pem
control_keyfile = {place}/key.pem
control_hosts = forkserve.test

[watcher:web]
cmd = /bin/sh -c "echo hello; exec sleep 1000"
copy_env = True
logs_kept = 4K
ready_after = 0.05
"""
AUTHORIZED = ("-H", f"Authorization: Bearer {TOKEN}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    return tmp_path


@pytest.fixture
def served(place: Path) -> Iterator[tuple[Forkserve, int]]:
    with running("--control", str(place / "control"), cwd=place, config=CONFIG.format(place=place)) as master:
        found = master.expect(r"forkserve.gateway: listening at https://127.0.0.1:(\d+)")
        yield master, int(found[1])


def curl(place: Path, port: int, path: str, *more: str, host: str = "127.0.0.1") -> tuple[int, str]:
    known = ("--cacert", str(place / "cert.pem"), "--resolve", f"{host}:{port}:127.0.0.1")
    command = ["curl", "-sS", "-m", "10", "-w", "\n%{http_code}", *known, *more, f"https://{host}:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), body + done.stderr


def test_verbs_and_events_pass_with_the_token_and_with_nothing_else(place: Path, served: tuple[Forkserve, int]) -> None:
    master, port = served

    assert json.loads(curl(place, port, "/v1/status", *AUTHORIZED)[1])[0]["name"] == "web"
    assert curl(place, port, "/v1/incr", *AUTHORIZED, "-d", '{"watcher": "web"}')[0] == 200
    assert curl(place, port, "/v1/nosuch", *AUTHORIZED)[0] == 404
    events = curl(place, port, "/v1/events?follow=false&last=5", *AUTHORIZED, "-N")

    assert events[0] == 200 and "event: " in events[1]
    logs = curl(place, port, "/v1/logs?target=web&last=1", *AUTHORIZED, "-N")
    assert logs[0] == 200 and '"text":"hello"' in logs[1]
    for more, status in (
        ((), 401),
        (("-H", "Authorization: Bearer wrong"), 401),
        (("-H", f"Authorization: Basic {TOKEN}"), 401),
        ((*AUTHORIZED, "-H", "Origin: https://elsewhere.test"), 403),
        ((*AUTHORIZED, "-H", "Host: rebound.test"), 421),
        ((*AUTHORIZED, "-d", "x" * 70_000), 413),
    ):
        found = curl(place, port, "/v1/stop", *more)
        assert found[0] == status, (more, found)

    assert curl(place, port, "/v1/status", *AUTHORIZED, "--insecure", host="forkserve.test")[0] == 200
    assert not re.search("web: stopping", master.transcript())


def test_two_hundred_clients_at_once_are_answered(place: Path, served: tuple[Forkserve, int]) -> None:
    _master, port = served
    context = ssl.create_default_context(cafile=str(place / "cert.pem"))
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(200):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            clients.append(stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1")))
        for each in clients:
            head = f"GET /v1/stats HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            each.sendall(head.encode())
        assert [each.recv(12) for each in clients] == [b"HTTP/1.1 200"] * 200


def test_without_descriptors_clients_wait_and_one_line_says_so(place: Path, served: tuple[Forkserve, int]) -> None:
    master, port = served
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
    gateway = next(int(pid) for pid in children if b"control gateway" in Path(f"/proc/{pid}/cmdline").read_bytes())
    before = resource.prlimit(gateway, resource.RLIMIT_NOFILE)
    resource.prlimit(gateway, resource.RLIMIT_NOFILE, (1, before[1]))
    clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(3)]

    master.expect("forkserve.gateway: no connection can be accepted: Too many open files")
    resource.prlimit(gateway, resource.RLIMIT_NOFILE, before)
    for client in clients:
        client.close()

    assert curl(place, port, "/v1/status", *AUTHORIZED)[0] == 200
    assert curl(place, port, "/v1/status")[0] == 401
    master.expect("forkserve.gateway: a request from .* is refused")  # so everything before has been read
    assert not [line for line in master.lines if "Traceback" in line or "out of system resource" in line]
    assert len([line for line in master.lines if "no connection can be accepted" in line]) == 1


def test_garbage_and_half_a_request_hurt_nobody(place: Path, served: tuple[Forkserve, int]) -> None:
    _master, port = served
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    for number, each in enumerate(opened):
        each.sendall((b"", b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b"\x80")[number])

    assert curl(place, port, "/v1", *AUTHORIZED)[0] == 200
    for each in opened:
        each.close()


def test_it_is_not_served_openly(place: Path) -> None:
    for lines, problem in (
        ("control_bind = 127.0.0.1:1", "needs a control_token"),
        (f"control_bind = 0.0.0.0:1\ncontrol_token = {place}/token", "needs a control_certfile"),
        (f"control_bind = 127.0.0.1:1\ncontrol_token = {place}/nothing", "no such file"),
        ("control_bind = unix:/x", "expected IP:PORT"),
    ):
        (place / "a.ini").write_text(f"[circus]\n{lines}\n[watcher:a]\ncmd = sleep 1\n")
        command = [sys.executable, "-m", "forkserve", "check", "a.ini"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert done.returncode == 78 and problem in done.stderr, done.stderr

    (place / "token").chmod(0o644)
    with running("--control", str(place / "control"), cwd=place, config=CONFIG.format(place=place)) as master:
        master.allow("others may read it", "has died")
        master.expect("control_token .*: others may read it; chmod 600 it")
