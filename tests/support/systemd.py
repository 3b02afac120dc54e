"""As much of systemd as a service with a store of descriptors meets: sd_notify(3), FDSTORE=1, sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.forkserving import Forkserve, running

__all__ = ["Systemd"]

_EXECUTE = """
import os, sys
fds = [int(each) for each in sys.argv[1].split(",") if each]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
_HIGH = 200
"""Where descriptors wait until they are put in their places from 3 on."""


class Systemd:
    """Keeps what a service stores, and gives it to the next one; `said` are its messages, in order."""

    def __init__(self, folder: Path, room: int | None) -> None:
        self.said: list[dict[str, str]] = []
        self.kept: list[tuple[str, socket.socket]] = []
        self._room = room
        self._path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))

    @classmethod
    @contextlib.contextmanager
    def manager(cls, folder: Path, room: int | None = 8) -> Iterator[Systemd]:
        """Run it; it tells no FDSTORE= without `room`, as before systemd 254."""
        manager = cls(folder, room)
        try:
            yield manager
        finally:
            manager._socket.close()
            for _, each in manager.kept:
                each.close()

    @property
    def names(self) -> list[str]:
        """The names of what is kept."""
        self.hear()
        return sorted(name for name, _ in self.kept)

    def hear(self) -> None:
        """Take in what was said."""
        while select.select([self._socket], [], [], 0)[0]:
            data, fds, _, _ = socket.recv_fds(self._socket, 4096, 16)
            fields = dict(line.split("=", 1) for line in data.decode().split("\n") if "=" in line)
            self.said.append(fields)
            name = fields.get("FDNAME", "stored")
            if fields.get("FDSTOREREMOVE") == "1":
                for each in [each for each in self.kept if each[0] == name]:
                    each[1].close()
                    self.kept.remove(each)
            assert bool(fds) == (fields.get("FDSTORE") == "1")
            for fd in fds:
                self._keep(name, socket.socket(fileno=fd))

    def _keep(self, name: str, sock: socket.socket) -> None:
        number = os.fstat(sock.fileno()).st_ino
        is_known = number in (os.fstat(each.fileno()).st_ino for _, each in self.kept)
        if is_known or len(self.kept) >= (8 if self._room is None else self._room):
            sock.close()
        else:
            self.kept.append((name, sock))

    @contextlib.contextmanager
    def service(self, cwd: Path, config: str, *argv: str) -> Iterator[Forkserve]:
        """Run forkserve as a service."""
        self.hear()
        dead = select.poll()
        for _, sock in self.kept:
            dead.register(sock, 0)
        hung_up = {fd for fd, _ in dead.poll(0)}
        self.kept = [each for each in self.kept if each[1].fileno() not in hung_up]
        env: Mapping[str, str] = {
            "NOTIFY_SOCKET": str(self._path),
            "LISTEN_FDS": str(len(self.kept)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self.kept),
            **({} if self._room is None else {"FDSTORE": str(self._room)}),
        }
        passed = [_duplicate(sock) for _, sock in self.kept]
        launcher = (sys.executable, "-S", "-c", _EXECUTE, ",".join(map(str, passed)))
        with running(*argv, cwd=cwd, config=config, pass_fds=passed, env=env, launcher=launcher) as server:
            for fd in passed:
                os.close(fd)
            yield server


def _duplicate(sock: socket.socket) -> int:
    return fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, _HIGH)
