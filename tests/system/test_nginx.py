"""forkserve behind a real nginx, with the configuration of the example: over TCP and over a unix socket."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.forkserving import Forkserve, eventually, running
from tests.support.nginx import NGINX, nginx
from tests.support.programs import program
from tests.support.serving import bound

APPS = Path(__file__).parent / "apps"
COMMANDS = str(Path(sys.executable).parent)
UPLOAD = os.urandom(1 << 20) * 20
PLACES = ("/", "/unix/")
STACK = """
[socket:tcp]
fd = {tcp}
[socket:local]
path = {folder}/forkserve.sock
{access}
[socket:wary]
fd = {wary}
[socket:named]
fd = {named}
[socket:asgi]
fd = {asgi}

[env]
PYTHONDONTWRITEBYTECODE = 1

[watcher:web]
cmd = forkserve-worker --fd $(circus.sockets.tcp) --fd $(circus.sockets.local) --python-path {apps} proxied_app:app
copy_env = True
numprocesses = 2

[watcher:wary]
cmd = forkserve-worker --fd $(circus.sockets.wary) --python-path {apps} --forwarded-allow-ips 10.9.8.7 proxied_app:app
copy_env = True

[watcher:named]
cmd = forkserve-worker --fd $(circus.sockets.named) --python-path {apps}
    --forwarded-fields for,proto,host,port proxied_app:app
copy_env = True

[watcher:asgi]
cmd = forkserve-worker --fd $(circus.sockets.asgi) --python-path {apps} starlette_app:app
copy_env = True
"""


class Site:
    """A stack behind nginx; a request has a connection of its own unless told otherwise."""

    def __init__(self, server: Forkserve, address: tuple[str, int]) -> None:
        self.server = server
        self.address = address

    def connect(self) -> contextlib.closing[HTTPConnection]:
        return contextlib.closing(HTTPConnection(*self.address, timeout=20))

    def facts(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        with self.connect() as client:
            client.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
            response = client.getresponse()
            text = response.read()
        assert response.status == 200, text
        found = json.loads(text)
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    program("nginx")
    with contextlib.ExitStack() as stack:
        # As /run/web of the example is: open to all, while pytest's folders are private.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nginx")))
        folder.chmod(0o755)
        access = f"mode = 0660\ngroup = {grp.getgrgid(NGINX.pw_gid).gr_name}" if NGINX is not None else ""
        sockets = {name: stack.enter_context(contextlib.closing(bound())) for name in ("tcp", "wary", "named", "asgi")}
        numbers = {name: each.fileno() for name, each in sockets.items()}
        at = {name: f"127.0.0.1:{each.getsockname()[1]}" for name, each in sockets.items()}
        config = STACK.format(folder=folder, apps=APPS, access=access, **numbers)
        env = {"PATH": f"{COMMANDS}:{os.environ['PATH']}"}
        server = stack.enter_context(running(cwd=folder, config=config, pass_fds=list(numbers.values()), env=env))
        more = (
            "location /unix/ { proxy_pass http://forkserve_unix/; }\n"
            "        location /unbuffered/ { proxy_request_buffering off; proxy_pass http://forkserve_tcp/; }\n"
            f"       location /wary/ {{ proxy_pass http://wary/; }}\n"
            f"       location /asgi/ {{ proxy_pass http://{at['asgi']}/; }}\n"
            f"       location /open/ {{ proxy_set_header Host $host; proxy_pass http://{at['tcp']}/; }}\n"
            "       location /open-unix/ { proxy_set_header Host $host; proxy_pass http://forkserve_unix/; }\n"
            "       location /named/ { proxy_set_header Host $host; proxy_set_header X-Forwarded-Host shop.example;"
            f" proxy_set_header X-Forwarded-Port 8443; proxy_pass http://{at['named']}/; }}"
        )
        changes = {
            "server 127.0.0.1:8000;": f"server {at['tcp']};",
            "unix:/run/web/forkserve.sock;": f"unix:{folder}/forkserve.sock;",
            "location /unix/ { proxy_pass http://forkserve_unix/; }": more,
            "upstream forkserve_tcp": f"upstream wary {{ server {at['wary']}; keepalive 4; }}\n"
            "    upstream forkserve_tcp",
        }
        names = (r"web\[1", r"web\[2", r"wary\[1", r"named\[1", r"asgi\[1")
        server.expect_all(*(rf"{name}\] pid \d+ is ready" for name in names))
        yield Site(server, stack.enter_context(nginx(folder, changes)))
    assert not (folder / "web.sock").exists()


@pytest.mark.parametrize("place", PLACES)
def test_the_application_sees_the_client_and_not_the_proxy(site: Site, place: str) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "Host": "shop.example"}
    facts = site.facts("GET", place, headers=headers)
    # nginx adds the address of whom it serves, which is trusted; the one before it is the client's.
    assert facts["REMOTE_ADDR"] == "203.0.113.9"
    assert (facts["HTTP_HOST"], facts["wsgi.url_scheme"]) == ("shop.example", "http")


HOST_FIELDS = ("X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "Forwarded")


@pytest.mark.parametrize("place", [*PLACES, "/open/", "/open-unix/"])
def test_a_client_cannot_choose_the_name_of_the_site(site: Site, place: str) -> None:
    """Also where nginx sets none of the fields: `/open/` passes everything through as the client sent it."""
    forged = {
        "X-Forwarded-Host": "evil.example:666",
        "X-Forwarded-Port": "666",
        "X-Forwarded-Server": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=6.6.6.6;host=evil.example;proto=https",
    }
    facts = site.facts("GET", place, headers={"Host": "shop.example", **forged})
    assert facts["HTTP_HOST"] == "shop.example"
    assert "evil" not in facts["SERVER_NAME"] and facts["SERVER_NAME"]
    assert facts["SERVER_PORT"] not in ("", "666")
    assert facts["wsgi.url_scheme"] == "http"
    seen = [name for name in HOST_FIELDS if "HTTP_" + name.upper().replace("-", "_") in facts["fields"]]
    assert seen == (list(HOST_FIELDS) if place.startswith("/open") else [])


def test_a_host_that_nginx_sets_is_believed_when_it_is_named(site: Site) -> None:
    facts = site.facts("GET", "/named/", headers={"Host": "inner.example", "X-Forwarded-Host": "evil.example"})
    assert [facts[name] for name in ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT")] == [
        "shop.example",
        "shop.example",
        "8443",
    ]


def test_what_a_proxy_says_that_is_not_trusted_changes_nothing(site: Site) -> None:
    facts = site.facts("GET", "/wary/", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    assert facts["REMOTE_ADDR"] == "127.0.0.1"
    assert facts["wsgi.url_scheme"] == "http"


def test_nginx_keeps_its_connections_to_a_worker(site: Site) -> None:
    ports = {site.facts("GET", "/wary/")["REMOTE_PORT"] for _ in range(50)}
    assert len(ports) == 1


@pytest.mark.parametrize("place", [*PLACES, "/unbuffered/"])
def test_a_large_upload_arrives_whole(site: Site, place: str) -> None:
    facts = site.facts("POST", f"{place}upload", UPLOAD)
    assert facts == {"size": len(UPLOAD), "sha256": hashlib.sha256(UPLOAD).hexdigest()}


@pytest.mark.parametrize("place", [*PLACES, "/unbuffered/"])
def test_a_chunked_upload_arrives_whole(site: Site, place: str) -> None:
    pieces = (UPLOAD[at : at + 100_000] for at in range(0, 3_000_000, 100_000))
    headers = {"Transfer-Encoding": "chunked"}
    facts = site.facts("POST", f"{place}upload", pieces, headers)
    assert facts == {"size": 3_000_000, "sha256": hashlib.sha256(UPLOAD[:3_000_000]).hexdigest()}


@pytest.mark.parametrize("place", PLACES)
def test_a_stream_comes_chunked_and_whole(site: Site, place: str) -> None:
    with site.connect() as client:
        for _ in range(3):
            client.request("GET", f"{place}stream")
            response = client.getresponse()
            assert response.getheader("Transfer-Encoding") == "chunked"
            assert response.read() == b"".join(b"%06d\n" % number for number in range(20_000))


@pytest.mark.parametrize("place", PLACES)
def test_head_has_no_body_and_the_connection_goes_on(site: Site, place: str) -> None:
    with site.connect() as client:
        for _ in range(3):
            client.request("HEAD", place)
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"")
            assert int(response.getheader("Content-Length") or 0) > 0
            client.request("GET", place)
            assert json.loads(client.getresponse().read())["REQUEST_METHOD"] == "GET"


def test_a_websocket_goes_through(site: Site) -> None:
    connect = pytest.importorskip("websockets.sync.client").connect
    host, port = site.address
    with connect(f"ws://{host}:{port}/asgi/ws", subprotocols=["echo"], open_timeout=20, proxy=None) as client:
        for text in ("one", "x" * 200_000):
            client.send(text)
            assert client.recv(20) == f"echo {text}"


def test_a_request_that_is_no_http_does_not_reach_the_worker(site: Site) -> None:
    with socket.create_connection(site.address, 20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_reloads_under_load_lose_no_request(site: Site) -> None:
    """HUP replaces both workers, twice, while four clients ask without a pause; every answer must be 200."""
    statuses: list[int] = []
    pids: set[int] = set()
    enough = threading.Event()

    def ask(place: str) -> None:
        with site.connect() as client:
            while not enough.is_set():
                client.request("GET", place)
                response = client.getresponse()
                body = response.read()
                statuses.append(response.status)
                if response.status == 200:
                    pids.add(json.loads(body)["pid"])

    clients = [threading.Thread(target=ask, args=(place,)) for place in PLACES * 2]
    for each in clients:
        each.start()
    try:
        for _ in range(2):
            before = set(pids)
            site.server.send(signal.SIGHUP)
            site.server.expect(r"web: 2 processes replaced")
            eventually(lambda before=before: pids - before)  # the new ones answer the load
    finally:
        enough.set()
        for each in clients:
            each.join()
    assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
