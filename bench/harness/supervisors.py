"""Circus and supervisord: the configuration files that run a worker under them.

Every circus configuration has a blank multicast_endpoint (else circusd opens UDP on all interfaces) and control
sockets in the scratch folder of the start.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.harness.model import BenchError
from bench.harness.target import HOST, Launch, program, python

__all__ = ["circus_argv", "circus_worker_argv", "circusctl_reload", "supervisord_worker_argv"]

CHAUSSETTE = "chaussette.server"  # the module, since the program of that name may be forkserve's
TRIAL = 2.0  # seconds in which a backend of Chaussette that cannot start has said so


def _circus(launch: Launch, command: str) -> list[str]:
    config = launch.folder / "circus.ini"
    config.write_text(f"""\
[circus]
endpoint = ipc://{launch.folder}/c.sock
pubsub_endpoint = ipc://{launch.folder}/p.sock
multicast_endpoint =
loglevel = WARNING

[watcher:web]
cmd = {command}
numprocesses = {launch.workers}
use_sockets = True
copy_env = True

[socket:web]
host = {HOST}
port = {launch.port}
backlog = 2048
""")
    return [python(), program("circusd"), str(config)]


def _chaussette_backends() -> list[str]:
    try:
        from chaussette.backend import backends  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise BenchError(f"chaussette is not installed: {error}") from error
    return sorted(backends())


def _refuse_what_ends_at_once(backend: str) -> None:
    """Try a backend of Chaussette with its own application; raises BenchError with its last words.

    circusd would start it over and over instead of saying so.
    """
    with socket.create_server((HOST, 0)) as listener:
        command = [python(), "-m", CHAUSSETTE, "--fd", str(listener.fileno()), "--backend", backend]
        try:
            done = subprocess.run(
                command, pass_fds=[listener.fileno()], capture_output=True, text=True, timeout=TRIAL, check=False
            )
        except subprocess.TimeoutExpired:
            return
    raise BenchError(f"chaussette --backend {backend} ends at once: {done.stderr.strip().rpartition(chr(10))[2]}")


def circus_argv(backend: str) -> Callable[[Launch], list[str]]:
    """Run Chaussette under circusd. Of its backends only wsgiref is sure to serve on today's Pythons."""

    def argv(launch: Launch) -> list[str]:
        offered = _chaussette_backends()
        if backend not in offered:
            raise BenchError(f"Chaussette offers no {backend} on this Python, only {', '.join(offered)}")
        if backend != "wsgiref":
            _refuse_what_ends_at_once(backend)
        app = launch.app.replace(":", ".")
        return _circus(launch, f"{python()} -m {CHAUSSETTE} --fd $(circus.sockets.web) --backend {backend} {app}")

    return argv


def circus_worker_argv(launch: Launch) -> list[str]:
    """Run forkserve-worker under circusd."""
    return _circus(launch, f"{program('forkserve-worker')} --fd $(circus.sockets.web) --backend sync {launch.app}")


def circusctl_reload(folder: Path) -> list[str]:
    """Return the command that makes circusd replace the workers."""
    return [python(), program("circusctl"), "--endpoint", f"ipc://{folder}/c.sock", "reload", "web"]


def supervisord_worker_argv(launch: Launch) -> list[str]:
    """Run forkserve-worker under supervisord, which gives an [fcgi-program] its socket as fd 0."""
    config = launch.folder / "supervisord.conf"
    worker = shlex.join([program("forkserve-worker"), "--fd", "0", "--backend", "sync", launch.app])
    config.write_text(f"""\
[supervisord]
nodaemon = true
silent = true
logfile = {launch.folder}/supervisord.log
pidfile = {launch.folder}/supervisord.pid
childlogdir = {launch.folder}

[fcgi-program:web]
command = {worker}
socket = tcp://{HOST}:{launch.port}
process_name = %(program_name)s_%(process_num)d
numprocs = {launch.workers}
""")
    return [program("supervisord"), "-c", str(config)]
