"""What a master tells of itself by HTTP: health, and metrics that the parser of Prometheus reads."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from forkserve.control.status.server import MOST_CONNECTIONS
from forkserve.supervision.metrics.report import FAMILIES
from forkserve.unix.counters import BOUNDS
from tests.support.forkserving import Forkserve, eventually, running
from tests.support.metriclint import faults

APPS = Path(__file__).parent / "apps"
WORKER = Path(sys.executable).parent / "forkserve-worker"
DURATION = "http_server_request_duration_seconds"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class UnixHTTP(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        eventually(self._is_connected)

    def _is_connected(self) -> bool:
        # A Unix socket whose queue is full refuses a client that does not block (connect(2), EAGAIN).
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(str(self.path))
            return True
        return False


@dataclass
class Site:
    """A running master, where it is asked for its health, and where its workers serve."""

    server: Forkserve
    status: Path
    address: tuple[str, int]

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the connection ends."""
        with contextlib.closing(UnixHTTP(self.status)) as conn:
            conn.connect()
            conn.sock.sendall(data)
            return b"".join(iter(lambda: conn.sock.recv(65536), b""))

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Return status, media type and body of an answer of the master."""
        with contextlib.closing(UnixHTTP(self.status)) as client:
            client.request(method, path, headers=headers)
            response = client.getresponse()
            return response.status, response.headers["Content-Type"], response.read().decode()

    def metrics(self) -> Samples:
        status, media_type, text = self.ask("/metrics")
        assert status == 200
        assert media_type.startswith("application/openmetrics-text; version=1.0.0")
        assert faults(text) == []
        families = list(openmetrics_parser.text_string_to_metric_families(text))
        assert {family.name for family in families} == set(FAMILIES)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(value for (each, has), value in self.metrics().items() if each == name and wanted <= has)

    def get(self, path: str = "/200", *, method: str = "GET", body: bytes | None = None) -> bytes:
        """Ask a worker, over a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(*self.address, timeout=20)) as client:
            client.request(method, path, body=body)
            return client.getresponse().read()

    def counted(self, method: str, status: int) -> int:
        labels = {"watcher": "web", "http_request_method": method, "http_response_status_code": str(status)}
        return int(self.value(f"{DURATION}_count", **labels))


@contextlib.contextmanager
def site(
    backend: str, folder: Path, *, workers: int = 2, more: str = "", environ: dict[str, str] | None = None
) -> Iterator[Site]:
    app = "counted:asgi" if backend == "asgi" else "counted:wsgi"
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        fd = listener.fileno()
        worker = f"{WORKER} --backend {backend} --pythonpath {APPS} --fd $(circus.sockets.web) {app} {more}"
        config = f"""
            [circus]
            status_bind = unix:{folder}/status.sock
            [socket:web]
            fd = {fd}
            [watcher:web]
            cmd = {worker}
            copy_env = true
            use_sockets = true
            numprocesses = {workers}
        """
        config = "\n".join(line.strip() for line in config.splitlines())
        with running(cwd=folder, config=config, pass_fds=(fd,), env=environ) as server:
            server.expect("status: unix:")
            yield Site(server, folder / "status.sock", listener.getsockname())


def ready(here: Site, number: int = 2) -> None:
    for _ in range(number):
        here.server.expect(r"web\[\d+\] pid \d+ is ready")


def free(fifo: Path) -> None:
    """Let a request go on that waits in the application, if one does."""
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


PURE = {"FORKSERVE_PURE": "1"}
HELD = """
import os
def hook(options):
    if os.path.exists("hold"):
        open("go").read()
"""
"""A hook that keeps a worker from being ready, while the test has a file `hold`, until it writes to the FIFO `go`."""


def hold(folder: Path) -> str:
    """Have the next workers wait before they are ready; returns the option of the worker for it."""
    (folder / "held.py").write_text(HELD)
    (folder / "hold").touch()
    os.mkfifo(folder / "go")
    return "--pre-hook held:hook"


def let_go(folder: Path) -> None:
    """Let a worker that waits be ready."""

    def is_read() -> bool:
        with contextlib.suppress(OSError):  # ENXIO: nobody reads it yet (fifo(7))
            os.close(os.open(folder / "go", os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False

    eventually(is_read)


@pytest.mark.parametrize(
    ("backend", "pure", "logged"),
    [
        *(("sync", False, False), ("threads", False, False), ("gevent", False, False), ("asgi", False, False)),
        *(("sync", True, False), ("asgi", True, False), ("sync", False, True), ("asgi", True, True)),
    ],
)
def test_each_request_is_counted_once(backend: str, pure: bool, logged: bool, tmp_path: Path) -> None:
    more = f"--access-log {tmp_path}/access.log" if logged else ""
    with site(backend, tmp_path, more=more, environ=PURE if pure else None) as here:
        here.server.allow("wanted", "Traceback", "ERROR")
        ready(here)
        for _ in range(5):
            here.get("/200")
        for path in ("/big", "/stream"):
            here.get(path)
        here.get("/404", method="HEAD")
        here.get("/201", method="POST", body=b"12345")
        here.get("/200", method="PROPFIND")
        here.get("/raise")

        expected = {("GET", 200): 7, ("HEAD", 404): 1, ("POST", 201): 1, ("_OTHER", 200): 1, ("GET", 500): 1}
        eventually(lambda: {key: here.counted(*key) for key in expected} == expected)
        samples = here.metrics()
        bounds = {dict(labels)["le"] for (name, labels) in samples if name == f"{DURATION}_bucket"}
        assert bounds == {*map(repr, BOUNDS), "+Inf"}
        assert sum(value for (name, _), value in samples.items() if name == f"{DURATION}_count") == 11
        # It is sampled each quarter of a second.
        eventually(lambda: here.value("http_server_active_requests", watcher="web") == 0)


def test_counts_survive_workers_and_reloads(tmp_path: Path) -> None:
    with site("sync", tmp_path) as here:
        here.server.allow("SIGKILL")
        ready(here)
        pids = {here.get() for _ in range(20)}
        # A request is counted once its answer has been sent; the client may be the first to know.
        eventually(lambda: here.counted("GET", 200) == 20)
        os.kill(int(pids.pop()), signal.SIGKILL)
        here.server.expect("SIGKILL")
        ready(here, 1)
        here.get()
        eventually(lambda: here.counted("GET", 200) == 21)
        here.server.send(signal.SIGHUP)
        here.server.expect("2 processes replaced")
        here.get()
        eventually(lambda: here.counted("GET", 200) == 22)

        assert here.value("forkserve_restarts_total", watcher="web", reason="signal") == 1
        assert here.value("forkserve_deploys_total", watcher="web", result="done") == 1
        assert here.value("forkserve_generation", watcher="web") == 2


def test_a_busy_worker_keeps_no_probe_waiting_and_is_seen(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with site("sync", tmp_path, workers=1, environ={"FORKSERVE_TEST_FIFO": str(fifo)}) as here:
        ready(here, 1)
        thread = threading.Thread(target=here.get, args=("/wait",))
        thread.start()
        waiting: list[socket.socket] = []
        try:
            eventually(lambda: here.value("http_server_active_requests", watcher="web") == 1)
            waiting += [socket.create_connection(here.address) for _ in range(3)]
            eventually(lambda: here.value("forkserve_queue_depth", socket="web") == 3)
            assert here.ask("/livez")[0] == here.ask("/readyz")[0] == 200
            eventually(lambda: here.value("forkserve_busy_ratio", watcher="web") == 1.0)
            eventually(lambda: here.value("forkserve_queue_oldest_seconds", socket="web") > 0)
        finally:
            free(fifo)
            thread.join()
            for each in waiting:
                each.close()
        eventually(lambda: here.value("http_server_active_requests", watcher="web") == 0)
        eventually(lambda: here.value("forkserve_queue_depth", socket="web") == 0)


def test_health_says_why_not(tmp_path: Path) -> None:
    with site("sync", tmp_path, workers=1, more=hold(tmp_path)) as here:
        status, media_type, text = here.ask("/readyz")
        assert (status, media_type) == (503, "text/plain; charset=utf-8")
        assert text.startswith("web: no process is ready")
        assert here.ask("/startupz")[0] == 503
        assert here.ask("/livez")[::2] == (200, "ok\n")
        let_go(tmp_path)
        ready(here, 1)
        assert here.ask("/readyz")[0] == 200


def test_health_follows_a_worker_that_is_lost_and_a_stop(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    more = hold(tmp_path)
    (tmp_path / "hold").unlink()
    with site("sync", tmp_path, workers=1, more=more, environ={"FORKSERVE_TEST_FIFO": str(fifo)}) as here:
        here.server.allow("SIGKILL")
        ready(here, 1)
        eventually(lambda: here.ask("/startupz")[0] == here.ask("/readyz")[0] == 200)
        (tmp_path / "hold").touch()
        os.kill(int(here.get()), signal.SIGKILL)
        here.server.expect("SIGKILL")
        status, _, text = here.ask("/readyz")
        assert status == 503
        assert text.startswith("web: no process is ready (was ended by SIGKILL")
        let_go(tmp_path)
        ready(here, 1)
        assert here.ask("/readyz")[0] == 200
        thread = threading.Thread(target=here.get, args=("/wait",))
        thread.start()
        eventually(lambda: here.value("http_server_active_requests", watcher="web") == 1)
        here.server.send(signal.SIGTERM)
        eventually(lambda: here.ask("/readyz")[::2] == (503, "stopping\n"))
        assert here.ask("/livez")[0] == 200
        free(fifo)
        thread.join()


def test_the_format_is_by_accept(tmp_path: Path) -> None:
    with site("sync", tmp_path, workers=1) as here:
        ready(here, 1)
        here.get()
        status, media_type, text = here.ask("/metrics", Accept="text/plain;version=0.0.4;q=0.9,*/*;q=0.1")
        assert (status, media_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        names = {family.name for family in text_parser.text_string_to_metric_families(text)}
        assert DURATION in names
        scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
        assert here.ask("/metrics", Accept=scraper)[1].startswith("application/openmetrics-text")
        assert here.ask("/metrics", method="HEAD")[::2] == (200, "")
        assert b"content-length" not in here.raw(b"HEAD /metrics HTTP/1.0\r\n\r\n").lower()  # that of GET is unknown
        assert here.ask("/metrics", method="POST")[0] == here.ask("/livez", method="PUT")[0] == 405
        assert here.ask("/nothing")[0] == 404
        assert here.ask("/" + "x" * 60_000)[0] in (400, 414, 431)
        assert here.raw(b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 505 ")
        assert here.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 505 ")


def test_requests_that_are_sent_ahead_are_answered_in_turn(tmp_path: Path) -> None:
    with site("sync", tmp_path, workers=1) as here:
        ready(here, 1)
        ahead = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1500 + b"GET /readyz HTTP/1.0\r\n\r\n"
        assert here.raw(ahead).count(b"HTTP/1.1 200 OK") == 1501


def test_idle_clients_keep_nobody_from_an_answer(tmp_path: Path) -> None:
    with site("sync", tmp_path, workers=1) as here, contextlib.ExitStack() as stack:
        ready(here, 1)
        for _ in range(2 * MOST_CONNECTIONS):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(here.status))
            client.send(b"GET /livez HTTP/1.1\r\n")
        assert here.ask("/livez")[0] == 200


def test_the_address_follows_the_configuration(tmp_path: Path) -> None:
    with site("sync", tmp_path, workers=1) as here:
        ready(here, 1)
        file = tmp_path / "stack.ini"
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        before = file.read_text()
        file.write_text(before.replace(f"unix:{tmp_path}/status.sock", str(port)))
        here.server.send(signal.SIGHUP)
        here.server.expect(rf"status_bind: cannot bind 127.0.0.1:{port}: address already in use; unix:.* stays")
        here.server.expect("replaced")
        assert here.ask("/livez")[0] == 200
        taken.close()
        here.server.send(signal.SIGHUP)
        here.server.expect("replaced")
        assert not here.status.exists()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
            client.request("GET", "/readyz")
            assert client.getresponse().status == 200
        file.write_text("\n".join(line for line in before.splitlines() if "status_bind" not in line))
        here.server.send(signal.SIGHUP)
        here.server.expect("replaced")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = "[watcher:x]\ncmd = sleep 100\n"
        with running("--status-bind", f":{port}", cwd=tmp_path, config=config) as server:
            server.allow("cannot bind")
            server.expect(rf"socket status: cannot bind 127.0.0.1:{port}: ")
            assert server.wait() != 0
