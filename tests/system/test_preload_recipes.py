"""Libraries that are opened at import, as docs/preload.md says to use them with a zygote."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserving import Forkserve, eventually, running
from tests.support.serving import PATIENCE
from tests.system.test_preload import address_of, ready, stack

pytestmark = pytest.mark.slow

ANSWER = """
def app(environ, start):
    body = answer().encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def ask(server: Forkserve) -> str:
    with contextlib.closing(http.client.HTTPConnection(*address_of(server), timeout=PATIENCE)) as conn:
        conn.request("GET", "/")
        return conn.getresponse().read().decode()


@contextlib.contextmanager
def site(
    folder: Path, code: str, *, flags: str = "", more: str = "", env: dict[str, str] | None = None
) -> Iterator[Forkserve]:
    (folder / "site_r.py").write_text(code + ANSWER)
    with running(cwd=folder, config=stack(app="site_r:app", flags=flags, more=more), env=env) as server:
        ready(server, 2)
        yield server


def test_sqlalchemy_with_a_pool_that_is_made_at_import(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    code = """
import os
from sqlalchemy import create_engine, event, text
engine = create_engine("sqlite:///site.db", poolclass=__import__("sqlalchemy.pool", fromlist=["QueuePool"]).QueuePool)
OPENED = []
event.listen(engine, "connect", lambda *_: OPENED.append(os.getpid()))
with engine.connect() as conn:
    conn.execute(text("select 1"))
def after(options):
    engine.dispose(close=False)
def answer():
    with engine.connect() as conn:
        return f"{conn.execute(text('select 42')).scalar()} {OPENED[-1] == os.getpid()}"
"""
    with site(tmp_path, code, flags="--after-fork site_r:after") as server:
        assert {ask(server) for _ in range(10)} == {"42 True"}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's: a path of one has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="fks") as folder:
        yield Path(folder)


def test_redis_reconnects_in_each_worker_by_itself(tmp_path: Path, short: Path) -> None:
    pytest.importorskip("redis", reason="redis-py is not installed")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server")
    path = short / "redis.sock"
    code = f"""
import os, redis
client = redis.Redis(unix_socket_path={str(path)!r})
client.ping()
def answer():
    return f"{{client.client_id() != FIRST}} {{client.incr('n') > 0}}"
FIRST = client.client_id()
"""
    database = f"""
after = redis
[watcher:redis]
cmd = {program} --port 0 --unixsocket {path} --save '' --dir {tmp_path} --logfile redis.log
ready = unix:{path}
"""
    with site(tmp_path, code, more=database) as server:
        server.first(r"web zygote: 1 socket is open in the zygote, .*: connected to .*redis.sock")
        assert {ask(server) for _ in range(10)} == {"True True"}


def test_prometheus_client_counts_each_worker_in_a_file_of_that_worker(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    code = """
import os
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
ASKED = Counter("asked", "Requests")
def answer():
    ASKED.inc()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    line = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("asked_total")]
    return line[0].split()[1]
"""
    (tmp_path / "counts").mkdir()
    with site(tmp_path, code, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts")}) as server:
        assert [float(ask(server)) for _ in range(20)] == [float(number) for number in range(1, 21)]


def test_opentelemetry_exports_from_each_worker(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not installed")
    code = """
import os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
class Exporter(SpanExporter):
    def export(self, spans):
        with open("spans", "a") as file:
            file.writelines(f"{os.getpid()} {span.name}\\n" for span in spans)
        return SpanExportResult.SUCCESS
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=100))
tracer = provider.get_tracer("site")
def answer():
    with tracer.start_as_current_span("answer"):
        return str(os.getpid())
"""
    with site(tmp_path, code) as server:
        server.first(
            r"web zygote: 1 thread runs in the zygote, .*: OtelBatchSpanRecordProcessor|web zygote: 1 thread runs"
        )
        asked = {ask(server) for _ in range(10)}
        eventually(lambda: (tmp_path / "spans").exists() and asked <= set((tmp_path / "spans").read_text().split()))


def test_numpy_gives_each_worker_other_random_numbers(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="numpy is not installed")
    code = """
import os, numpy, random
numpy.random.seed(1); random.seed(1)
FIRST = {}
def answer():
    if not FIRST:
        FIRST["it"] = f"{os.getpid()} {numpy.random.random()} {random.random()}"
    return FIRST["it"]
"""
    with site(tmp_path, code) as server:
        said: dict[str, tuple[str, str]] = {}

        def enough() -> bool:
            pid, one, other = ask(server).split()
            said[pid] = (one, other)
            return len(said) == 2

        eventually(enough)
        assert len(set(said.values())) == 2
        assert len({one for one, _ in said.values()}) == len({other for _, other in said.values()}) == 2
