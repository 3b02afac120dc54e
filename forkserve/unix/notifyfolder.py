"""A private folder with one notify socket for each process, so that the sender of a message is known.

A message must count although its sender has ended, as with `systemd-notify` in a shell script: then the kernel has no
pid, session or control group left to look up, but the address that it was sent to still identifies the process. No
other process may fill the queue: the folder is private (0700), each socket is 0600 and belongs to the user of its
process. If processes run as other users, these may pass through the folder (0711), but neither list it nor write to
each other's sockets. A program that changes its user itself, as gosu does, gets a socket that all may write to, under a
name that only its environment contains: /proc/net/unix shows the name by which a socket was bound, so it is renamed.

A lock (flock(2)) marks the folder as in use, independently of pids: the folder of a killed master is removed by the
next one. It also keeps systemd-tmpfiles(8) away. The reasons: docs/adr/0011.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from forkserve.unix.descriptors import descriptor, number_of
from forkserve.unix.notify import NotifySocket
from forkserve.unix.privileges import Credentials

__all__ = ["NotifyFolder", "places", "remove_left"]

log = logging.getLogger("forkserve.master")

_PREFIX = "forkserve-notify-"
_LONGEST = 107
"""Most bytes of a socket's path (unix(7))."""
_NAME = 32
"""Most bytes of the name of a socket."""


def places() -> list[str]:
    """Return where a folder may be created, best first; other users must be able to reach root's."""
    runtime, temporary = os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR", "")
    wanted = ("/run", "/tmp", temporary, "/dev/shm") if os.geteuid() == 0 else (runtime, temporary, "/tmp", "/dev/shm")
    return [place for place in dict.fromkeys(wanted) if place.startswith("/")]


class NotifyFolder:
    """Creates the sockets; `prefix` is the beginning of every address, and of no other master's.

    Without a writable place the addresses are abstract: then any local user can fill their queues.
    """

    def __init__(self, among: Sequence[str] | None = None) -> None:
        self._made = 0
        self._is_open_to_others = False
        self._path, self._lock = "", -1
        for place in places() if among is None else among:
            _sweep(place)
            with contextlib.suppress(OSError):
                self._path, self._lock = _make(place)
                break
        self.prefix = f"{self._path}/" if self._path else f"@forkserve/{os.getpid()}/{os.urandom(8).hex()}/"
        if not self._path:
            log.warning(
                "no folder for notify sockets can be made; those in the abstract name space are open to all users"
            )

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data: folder and lock outlive an exec of the master."""
        return {
            "path": self._path,
            "lock": descriptor(self._lock),
            "prefix": self.prefix,
            "made": self._made,
            "open_to_others": self._is_open_to_others,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> NotifyFolder:
        """Return the same folder again."""
        folder = cls.__new__(cls)
        folder._path, folder._lock, folder.prefix = data["path"], number_of(data["lock"]), data["prefix"]
        folder._made, folder._is_open_to_others = data["made"], data["open_to_others"]
        return folder

    def open(self, credentials: Credentials | None = None, *, changes_user: bool = False) -> NotifySocket:
        """Return a socket for one process, which runs with these credentials; raises OSError.

        With `changes_user` it will become a user that only it knows.
        """
        self._made += 1
        address = f"{self.prefix}{self._made}"
        if not self._path:
            return NotifySocket(address)
        owner = None if credentials is None or credentials.uid == os.geteuid() else credentials.uid
        changes_user = changes_user and owner is None and os.geteuid() == 0
        self._prepare(for_others=changes_user or owner is not None)
        made = NotifySocket(address)
        try:
            if owner is not None:
                os.chown(address, owner, -1, follow_symlinks=False)
            elif changes_user:
                os.chmod(address, 0o666)
                made.address = f"{address}-{os.urandom(8).hex()}"
                os.rename(address, made.address)
        except OSError:
            made.close()
            raise
        return made

    def _prepare(self, *, for_others: bool) -> None:
        """Recreate the folder if a cleaner has removed it, and let other users pass once there are any."""
        try:
            os.mkdir(self._path, 0o700)
        except FileExistsError:
            found = os.lstat(self._path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, f"{self._path} is another user's") from None
        else:
            os.close(self._lock)
            self._lock = _lock(self._path)
            self._is_open_to_others = False
        if for_others and not self._is_open_to_others:
            os.chmod(self._path, 0o711)
            self._is_open_to_others = True

    def close(self) -> None:
        """Remove the folder."""
        if self._path:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._path = ""


def _make(place: str) -> tuple[str, int]:
    """Return a new folder and the lock on it; raises OSError."""
    if len(os.fsencode(place)) + len(f"/{_PREFIX}12345678/") + _NAME > _LONGEST:
        raise OSError(errno.ENAMETOOLONG, "too long for the path of a socket")
    path = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
    return path, _lock(path)


def _lock(path: str) -> int:
    """Return a descriptor that holds the lock; raises OSError, also if a sweeping master was first."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(fd), os.lstat(path)):
            raise FileNotFoundError(errno.ENOENT, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _sweep(place: str) -> None:
    """Remove what killed masters of this user have left: their lock is free."""
    with contextlib.suppress(OSError):
        for each in os.scandir(place):
            if each.name.startswith(_PREFIX) and each.stat(follow_symlinks=False).st_uid == os.geteuid():
                remove_left(each.path)


def remove_left(path: str) -> None:
    """Remove the folder of a killed master; one that is in use, and anything else, stays."""
    path = path.rstrip("/")
    if path.startswith("/") and os.path.basename(path).startswith(_PREFIX):
        with contextlib.suppress(OSError):
            fd = _lock(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)
