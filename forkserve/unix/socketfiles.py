"""The file of a Unix socket: created with its final mode, never taken from a living program, removed only while it is
ours.

A path is not a lock. Of two programs on one path the later would silently take the clients of the earlier, so an
existing file is replaced only if no program answers there, or if the user says `replace`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from forkserve.config.sockets import SocketOptions
from forkserve.errors import BindError

__all__ = [
    "Owners",
    "SocketFile",
    "bind_file",
    "change_access",
    "clear_path",
    "clear_stale",
    "created_at",
    "remove_dead",
    "sweep_hidden",
]


_YOUNG = 60.0
"""Seconds within which a program that has hidden a file has certainly begun to listen."""


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of a file, by number; -1 leaves it as it is, as in chown(2)."""

    uid: int = -1
    gid: int = -1

    def give(self, path: str) -> None:
        """Change the owner of a file; raises OSError."""
        if self != Owners():
            os.chown(path, self.uid, self.gid)


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A file that we have created, known by its inode as well as by its path."""

    path: str
    device: int
    inode: int

    @property
    def is_missing(self) -> bool:
        """True if nothing is at the path: a cleaner has removed it, and no client finds the socket any more."""
        return not os.path.lexists(self.path)

    @property
    def is_there(self) -> bool:
        """True while the file is where it was created, and has not been replaced."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)

    def hidden(self) -> SocketFile:
        """Give it a name that no client knows; if it cannot be renamed it stays where it is."""
        folder, name = os.path.split(self.path)
        return self._renamed(os.path.join(folder, f".{name}.{os.getpid()}"))  # `sweep_hidden` knows it by this

    def shown(self, path: str) -> SocketFile:
        """Give a hidden file its name, and replace no other; raises BindError."""
        if path == self.path:
            return self
        if os.path.lexists(path):
            raise BindError(f"cannot show unix:{path}: another program has made a file there meanwhile")
        moved = self._renamed(path)
        if moved is self:
            raise BindError(f"cannot show unix:{path}: {self.path} cannot be renamed")
        return moved

    def _renamed(self, path: str) -> SocketFile:
        try:
            os.rename(self.path, path)
        except OSError:
            return self
        return replace(self, path=path)

    def remove(self) -> None:
        """Remove the file, unless it was replaced or removed already."""
        if self.is_there:
            with contextlib.suppress(OSError):  # gone, or read-only by now: nothing is left to do
                os.unlink(self.path)


def bind_file(sock: socket.socket, options: SocketOptions, path: str, owners: Owners) -> SocketFile:
    """Bind under a umask, so that the file never has a wider mode than it should, not even for a moment.

    `mode` overrides `umask`; without either the master's own umask applies. Raises OSError, with no file left.
    """
    wanted = options.umask if options.mode is None else 0o777 & ~options.mode
    previous = os.umask(0o777)
    os.umask(previous if wanted is None else wanted)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)
    made = created_at(path)
    try:
        owners.give(path)
    except OSError:
        made.remove()
        raise
    return made


def created_at(path: str) -> SocketFile:
    """Return the file that a bind has just created; raises OSError."""
    found = os.lstat(path)
    return SocketFile(path, found.st_dev, found.st_ino)


def change_access(options: SocketOptions, path: str, owners: Owners) -> None:
    """Give an existing file the owner and mode of other options; raises OSError."""
    owners.give(path)
    if options.mode is not None:
        os.chmod(path, options.mode)
    elif options.umask is not None:
        os.chmod(path, 0o777 & ~options.umask)


def clear_stale(options: SocketOptions, path: str) -> None:
    """Remove the file of a socket on which no program listens; raises BindError for a living one, or anything but
    a socket.
    """
    place = f"socket {options.name}: cannot bind unix:{path}"
    clear_path(
        path, place, options.type, advice="stop it, choose another path, or set replace = True", replace=options.replace
    )


def clear_path(
    path: str,
    place: str,
    kind: int = socket.SOCK_STREAM,
    *,
    advice: str = "stop it, or choose another path",
    replace: bool = False,
) -> None:
    """Do the same for any program that binds; `place` begins a message, `advice` says what to do about another."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BindError(f"{place}: a file that is no socket is there; remove it, or choose another path")
    except OSError:
        return  # nothing is there, or bind(2) will say better what is wrong
    if not replace and _answers(path, kind):
        raise BindError(f"{place}: another program listens there; {advice}")
    with contextlib.suppress(OSError):  # bind(2) will say it
        os.unlink(path)


def remove_dead(path: str, owners: Collection[int]) -> None:
    """Remove the file that a killed program has left: a stream socket of one of these users on which none listens."""
    with contextlib.suppress(OSError):  # gone, or read-only by now: nothing is left to do
        found = os.lstat(path)
        is_left = stat.S_ISSOCK(found.st_mode) and found.st_uid in owners
        if is_left and not _answers(path, socket.SOCK_STREAM):
            os.unlink(path)


def sweep_hidden(path: str, kind: int) -> None:
    """Remove the files that were hidden by programs that were killed before they could show or remove them.

    A living program has bound its file an instant before it listens, so a young file of a living pid is left alone.
    """
    folder, name = os.path.split(path)
    hidden = re.compile(rf"\.{re.escape(name)}\.([1-9][0-9]*)")
    with contextlib.suppress(OSError), os.scandir(folder or ".") as found:
        for each in found:
            matched = hidden.fullmatch(each.name)
            if matched is not None and _is_abandoned(each, int(matched[1]), kind):
                os.unlink(each.path)


def _is_abandoned(entry: os.DirEntry[str], pid: int, kind: int) -> bool:
    status = entry.stat(follow_symlinks=False)
    is_young = time.time() - status.st_ctime < _YOUNG
    return stat.S_ISSOCK(status.st_mode) and not (is_young and _lives(pid)) and not _answers(entry.path, kind)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _answers(path: str, kind: int) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        # Any other error (the backlog is full, permission denied, another type): a server is there.
        return probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT)
