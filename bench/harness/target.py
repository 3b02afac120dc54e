"""Where a server is to listen and what it is to serve; and where the programs are."""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.harness.model import BenchError

__all__ = ["HOST", "Launch", "free_port", "program", "python"]

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Launch:
    """One start: the application as module:attribute, the address (a unix path wins over the port), and the sizes.

    `folder` is the scratch directory of this start and the server's working directory. `connections` is how many
    clients are going to come at once. `supervised` asks for the server's process manager even with one worker.
    `pinned` keeps it to the server cores. `keep_alive` is for how many seconds an idle connection must live, 0 for the
    server's default. `release` is a link to the folder of the application's code: a server that resolves it for each
    generation is told of it, others find the code by their PYTHONPATH. `status` is the port for health or metrics of
    a server that has one for them.
    """

    app: str
    folder: Path
    port: int = 0
    unix: str = ""
    workers: int = 1
    threads: int = 4
    connections: int = 64
    supervised: bool = False
    pinned: bool = True
    keep_alive: int = 0
    release: str = ""
    status: int = 0


def program(name: str) -> str:
    """Find a command: in this Python's environment first, then on PATH and in the sbin folders; raises BenchError."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    found = found or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if not found:
        raise BenchError(f"{name} is not installed")
    return found


def python() -> str:
    """Return the interpreter that every server runs on."""
    return sys.executable


def free_port() -> int:
    """Return a loopback port that was free a moment ago: bound and closed right before the server binds it."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
