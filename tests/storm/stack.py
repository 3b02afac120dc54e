"""The stack that a storm plays with: sites with clients, watchers beside them, and the file that says so.

A site is one socket, one watcher of `forkserve-worker`, and an application whose answer begins with the pid that gave
it. `web` is there all along, whatever becomes of its name; `side` (TCP) and `local` (Unix) move, go and come back.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["GOOD", "Site", "Stack", "Watcher", "loopback", "spoilt"]

GRACEFUL = 5.0
"""graceful_timeout of the sites in seconds."""

GOOD = """\
import os, select

PID = b"%d\\n" % os.getpid()

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/slow":
        select.select([], [], [], 0.2)
    content = PID + body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
    return [content]
"""

_PRELOADED = ("preload = True", "refork_after = 300")
"""Of a site whose workers are forked by a zygote, and become one after so many requests."""

_SPOILT = {
    "import error": "import there_is_no_such_module\n",
    "exits at import": "import os\nos._exit(9)\n",
    "exits later": "import select\nselect.select([], [], [], 0.3)\nraise SystemExit(4)\n",
    "never ready": "import select\nselect.select([], [], [], 600)\n",
}

_HELPERS = {
    "ticker.py": "import time\nwhile True:\n    time.sleep(0.05)\n    print('tick', flush=True)\n",
    "stubborn.py": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(10000)\n",
    "flaky.py": "import random, select\nselect.select([], [], [], random.uniform(0.5, 5))\nraise SystemExit(1)\n",
    "family.sh": "sleep 10000 &\nsleep 10000 &\nwait\n",
}


def spoilt() -> list[str]:
    """Return the kinds in which an application can be spoilt."""
    return list(_SPOILT)


@dataclass(frozen=True, slots=True)
class Watcher:
    """A watcher beside the sites."""

    cmd: str
    numprocesses: int = 1
    more: str = ""


@dataclass(slots=True)
class Site:
    """One socket with its watcher; `places` are the addresses that it may have, `at` is the one it has now."""

    watcher: str
    places: tuple[tuple[str, int] | str, ...]
    options: str
    names: tuple[str, ...]
    at: int = 0
    name: int = 0
    numprocesses: int = 2
    has_socket: bool = True
    has_watcher: bool = True
    reuseport: bool = False
    backlog: int = 2048
    module: str = "site_app:app"
    more: tuple[str, ...] = ()

    @property
    def address(self) -> tuple[str, int] | str:
        """Where clients go now."""
        return self.places[self.at]

    @property
    def is_fixed(self) -> bool:
        """Whether it is there all along, so that a refused connection is a lost one."""
        return len(self.places) == 1

    def text(self) -> str:
        """Return its sections."""
        socket_name = self.names[self.name]
        lines: list[str] = []
        if self.has_socket:
            where = self.address
            lines.append(f"[socket:{socket_name}]")
            lines += [f"path = {where}"] if isinstance(where, str) else [f"host = {where[0]}", f"port = {where[1]}"]
            lines += [f"backlog = {self.backlog}", *(["so_reuseport = True"] if self.reuseport else [])]
        if self.has_socket and self.has_watcher:
            worker = _worker()
            lines.append(f"[watcher:{self.watcher}]")
            lines.append(f"cmd = {worker} --fd $(circus.sockets.{socket_name}) {self.options} {self.module}")
            lines += [f"numprocesses = {self.numprocesses}", "copy_env = True", "max_retry = -1", "backoff = 0.1"]
            lines += [*self.more, "backoff_max = 1", f"graceful_timeout = {GRACEFUL}", "ready_timeout = 10"]
        return "\n".join(lines)


def _worker() -> str:
    return str(Path(sys.executable).with_name("forkserve-worker"))


def loopback() -> str:
    """Return an address of this machine that nobody else uses: one of its own for each pid."""
    pid = os.getpid()
    return f"127.{100 + (pid >> 16) % 100}.{pid >> 8 & 255}.{pid & 255}"


def _free(host: str, count: int) -> list[tuple[str, int]]:
    """Return free ports. The master must bind them itself, to move them about; nobody else uses this host."""
    held = [socket.create_server((host, 0)) for _ in range(count)]
    found = [(host, each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return found


@dataclass(slots=True)
class Stack:
    """All that the configuration says, in a folder of the storm's own."""

    folder: Path
    sites: list[Site] = field(default_factory=list)
    watchers: dict[str, Watcher] = field(default_factory=dict)

    def __post_init__(self) -> None:
        web, *side = _free(loopback(), 4)
        paths = tuple(str(self.folder / name) for name in ("local.sock", "other.sock"))
        self.sites = [
            Site("web", (web,), "-k sync", ("web", "http", "www"), numprocesses=3),
            Site("side", tuple(side), "-k threads --threads 3", ("side", "flank"), more=_PRELOADED),
            Site("local", paths, "-k gevent", ("local", "near")),
        ]
        self.watchers = {
            "ticker": Watcher(
                f"{sys.executable} ticker.py", more="singleton = True\nstdout_stream.filename = ticks.log"
            ),
            "stubborn": Watcher(f"{sys.executable} stubborn.py", 2, "graceful_timeout = 0.5"),
            "flaky": Watcher(f"{sys.executable} flaky.py", 2, "max_retry = -1\nbackoff_max = 2"),
            "family": Watcher("sh family.sh", 1, "graceful_timeout = 1"),
        }
        for name, text in {**_HELPERS, "site_app.py": GOOD}.items():
            (self.folder / name).write_text(text)
        self.write()

    @property
    def file(self) -> Path:
        """The configuration file."""
        return self.folder / "storm.ini"

    def text(self) -> str:
        """Return the file that says what the stack is to be."""
        parts = [site.text() for site in self.sites]
        for name, watcher in self.watchers.items():
            lines = [f"[watcher:{name}]", f"cmd = {watcher.cmd}", f"numprocesses = {watcher.numprocesses}"]
            parts.append("\n".join([*lines, "copy_env = True", "ready_after = 0.1", watcher.more]))
        return "\n".join(parts) + "\n"

    def write(self, text: str | None = None) -> None:
        """Put the file in place at once, as a deployment does: what it says by itself, or another text."""
        fresh = self.folder / "storm.ini.new"
        fresh.write_text(self.text() if text is None else text)
        fresh.rename(self.file)

    def spoil(self, kind: str) -> None:
        """Put a broken application in place."""
        self._application(_SPOILT[kind])

    def mend(self) -> None:
        """Put the good application back."""
        self._application(GOOD)

    def _application(self, text: str) -> None:
        fresh = self.folder / "site_app.py.new"
        fresh.write_text(text)
        fresh.rename(self.folder / "site_app.py")
