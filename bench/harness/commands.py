"""How each server is started: functions from a Launch to a command line. The table that names them is servers.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bench.harness.target import HOST, Launch, program, python

__all__ = [
    "bjoern",
    "cheroot",
    "fastpysgi",
    "forkserve",
    "granian",
    "gunicorn",
    "gunicorn_preload",
    "hypercorn",
    "launcher",
    "logged",
    "nginx",
    "nginx_proxy",
    "operated",
    "peregrine",
    "self_test",
    "uvicorn",
    "uwsgi",
    "uwsgi_http",
    "uwsgi_preload",
    "waitress",
    "worker_bare",
    "worker_forkserve",
]

LAUNCHERS = Path(__file__).parent.parent / "launchers"


def forkserve(backend: str, *extra: str) -> Callable[[Launch], list[str]]:
    def argv(launch: Launch) -> list[str]:
        threads = ["--threads", str(launch.threads)] if backend in ("threads", "gunicorn-gthread") else []
        where = f"unix:{launch.unix}" if launch.unix else f"{HOST}:{launch.port}"
        command = [program("forkserve"), "-w", str(launch.workers), "-b", where, "--backend", backend]
        release = ["--chdir", launch.release] if launch.release else []
        status = ["--status-bind", f"{HOST}:{launch.status}"] if launch.status else []
        return [*command, *threads, *release, *status, *extra, launch.app]

    return argv


def logged(argv: Callable[[Launch], list[str]], *extra: str) -> Callable[[Launch], list[str]]:
    """Add options at the end, where the last of two wins, and drop the one that would silence the log."""

    def with_log(launch: Launch) -> list[str]:
        return [*(word for word in argv(launch) if word != "--no-access-log"), *extra]

    return with_log


def gunicorn(worker: str) -> Callable[[Launch], list[str]]:
    def argv(launch: Launch) -> list[str]:
        where = f"unix:{launch.unix}" if launch.unix else f"{HOST}:{launch.port}"
        extra = ["--threads", str(launch.threads)] if worker == "gthread" else []
        if worker in ("gevent", "asgi", "gthread") and launch.connections > 1000:
            extra += ["--worker-connections", str(launch.connections + 100)]
        extra += ["--keep-alive", str(launch.keep_alive)] if launch.keep_alive else []
        command = [program("gunicorn"), "-w", str(launch.workers), "-k", worker, "-b", where]
        return [*command, *extra, "--no-control-socket", "--log-level", "warning", launch.app]

    return argv


def gunicorn_preload(launch: Launch) -> list[str]:
    *command, app = gunicorn("gthread")(launch)
    return [*command, "--preload", app]


def _uwsgi(launch: Launch, *where: str, lazy: bool = True) -> list[str]:
    production = ["--master", "--strict", "--need-app", "--enable-threads", "--die-on-term", "--single-interpreter"]
    command = [program("uwsgi"), *where, "--module", launch.app, "--processes", str(launch.workers)]
    threads = ["--threads", str(launch.threads)] if launch.threads > 4 else []
    fifo = ["--master-fifo", str(launch.folder / "fifo")]
    status = ["--stats", f"{HOST}:{launch.status}", "--stats-http"] if launch.status else []
    load = ["--lazy-apps"] if lazy else []
    return [*command, *threads, *production, "--vacuum", *load, *fifo, *status, "--disable-logging"]


def uwsgi(launch: Launch) -> list[str]:
    # http-socket ends each connection after one answer; saying so is what HTTP/1.1 clients and proxies rely on.
    where = launch.unix or f"{HOST}:{launch.port}"
    return _uwsgi(launch, "--http-socket", where, "--add-header", "Connection: close")


def uwsgi_preload(launch: Launch) -> list[str]:
    """Load the application in the master and fork, which is its default; the chain of reloads is for lazy ones only."""
    return _uwsgi(launch, "--http-socket", f"{HOST}:{launch.port}", "--add-header", "Connection: close", lazy=False)


def uwsgi_http(launch: Launch) -> list[str]:
    """By its own router, a process of its own, which keeps connections."""
    return _uwsgi(launch, "--http", f"{HOST}:{launch.port}", "--http-keepalive")


def granian(interface: str) -> Callable[[Launch], list[str]]:
    def argv(launch: Launch) -> list[str]:
        where = ["--uds", launch.unix] if launch.unix else ["--host", HOST, "--port", str(launch.port)]
        threads = ["--blocking-threads", str(launch.threads)] if interface == "wsgi" and launch.threads > 4 else []
        # Its default takes on 1024 connections and leaves the others waiting.
        many = ["--backpressure", str(launch.connections + 100)] if launch.connections > 1000 else []
        command = [program("granian"), "--interface", interface, "--workers", str(launch.workers), *where, *many]
        status = ["--metrics", "--metrics-address", HOST, "--metrics-port", str(launch.status)] if launch.status else []
        return [*command, *threads, *status, "--log-level", "warning", launch.app]

    return argv


def uvicorn(launch: Launch) -> list[str]:
    where = ["--uds", launch.unix] if launch.unix else ["--host", HOST, "--port", str(launch.port)]
    workers = ["--workers", str(launch.workers)] if launch.workers > 1 or launch.supervised else []
    keep = ["--timeout-keep-alive", str(launch.keep_alive)] if launch.keep_alive else []
    command = [program("uvicorn"), launch.app, *where, *workers, *keep, "--loop", "uvloop", "--http", "httptools"]
    return [*command, "--no-access-log", "--log-level", "warning"]


def peregrine(protocol: str) -> Callable[[Launch], list[str]]:
    def argv(launch: Launch) -> list[str]:
        where = ["--unix", launch.unix] if launch.unix else ["--host", HOST, "--port", str(launch.port)]
        threads = ["--wsgi-threads", str(launch.threads)] if protocol == "wsgi" else []
        command = [program("peregrine"), *where, "--workers", str(launch.workers), "--protocol", protocol]
        status = ["--metrics-port", str(launch.status)] if launch.status else []
        return [*command, *threads, *status, "--log-level", "warning", launch.app]

    return argv


def hypercorn(launch: Launch) -> list[str]:
    where = f"unix:{launch.unix}" if launch.unix else f"{HOST}:{launch.port}"
    command = [program("hypercorn"), "-w", str(launch.workers), "-k", "uvloop", "-b", where]
    keep = ["--keep-alive", str(launch.keep_alive)] if launch.keep_alive else []
    return [*command, *keep, "--log-level", "WARNING", launch.app]


def waitress(launch: Launch) -> list[str]:
    where = [f"--unix-socket={launch.unix}"] if launch.unix else [f"--listen={HOST}:{launch.port}"]
    many = [f"--connection-limit={launch.connections + 100}", "--asyncore-use-poll"] if launch.connections > 90 else []
    return [program("waitress-serve"), *where, f"--threads={launch.threads}", *many, launch.app]


def cheroot(launch: Launch) -> list[str]:
    return [program("cheroot"), "--bind", f"{HOST}:{launch.port}", launch.app]


def launcher(name: str) -> Callable[[Launch], list[str]]:
    """Start a server that has no command of its own."""

    def argv(launch: Launch) -> list[str]:
        return [python(), str(LAUNCHERS / f"{name}_run.py"), launch.app, HOST, str(launch.port)]

    return argv


def bjoern(launch: Launch) -> list[str]:
    where = [launch.unix] if launch.unix else [HOST, str(launch.port)]
    return [python(), str(LAUNCHERS / "bjoern_run.py"), launch.app, str(launch.workers), *where]


def fastpysgi(launch: Launch) -> list[str]:
    return [python(), str(LAUNCHERS / "fastpysgi_run.py"), launch.app, str(launch.workers), HOST, str(launch.port)]


def _nginx_config(launch: Launch, http: str) -> list[str]:
    """Write a configuration that needs no folder outside of the scratch one, and return the command."""
    config = launch.folder / "nginx.conf"
    # Started by root, nginx would serve as nobody, who may not open a unix socket in our scratch folder.
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {launch.folder}/{kind};" for kind in kinds)
    config.write_text(f"""\
{user} worker_processes {launch.workers}; daemon off; pid {launch.folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; default_type text/plain; {folders}
  {http}
}}
""")
    return [program("nginx"), "-p", str(launch.folder), "-c", str(config)]


def nginx(launch: Launch) -> list[str]:
    """Answer from the configuration."""
    location = 'location / { return 200 "Hello, World!"; }'
    return _nginx_config(launch, f"server {{ listen {HOST}:{launch.port} backlog=2048; {location} }}")


def nginx_proxy(launch: Launch) -> list[str]:
    """nginx in front of the address that takes the place of the application."""
    headers = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'
    upstream = f"upstream app {{ server {launch.app}; keepalive 64; keepalive_requests 100000000; }}"
    location = f"location / {{ proxy_pass http://app; {headers} }}"
    return _nginx_config(launch, f"{upstream} server {{ listen {HOST}:{launch.port} backlog=2048; {location} }}")


def worker_bare(launch: Launch) -> list[str]:
    return [program("forkserve-worker"), "--bind", f"{HOST}:{launch.port}", "--backend", "sync", launch.app]


def worker_forkserve(launch: Launch) -> list[str]:
    command = [program("forkserve-worker"), "--fd", "$(circus.sockets.web)", "--backend", "sync", launch.app]
    return [program("forkserve"), "--fd-socket", f"web={HOST}:{launch.port}", "--", *command]


def self_test(mode: str) -> Callable[[Launch], list[str]]:
    def argv(launch: Launch) -> list[str]:
        return [python(), str(LAUNCHERS / "faulty.py"), mode, HOST, str(launch.port)]

    return argv


def operated(manner: str) -> Callable[[Launch], list[str]]:
    def argv(launch: Launch) -> list[str]:
        where = [HOST, str(launch.port), str(launch.status)]
        return [python(), str(LAUNCHERS / "operated.py"), manner, *where, launch.app]

    return argv
