"""Opens a file to append to, without following a link that another user may have placed.

In a folder such as /tmp any user can make `app.log` a link to a file of ours. A link is followed if it belongs to root
or to this user, anywhere in the path; so a log folder that the administrator has moved stays usable. Links of /proc are
the kernel's own (`/dev/stdout`). The path is walked one name at a time (openat(2)), so nothing can be swapped between
the check and the step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque

__all__ = ["open_appending"]

_MOST_LINKS = 40
"""The limit of the kernel (path_resolution(7))."""
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


def open_appending(path: str, *, nonblocking: bool = False) -> int:
    """Return a descriptor to append to `path`, which is created if necessary.

    With `nonblocking` neither this call nor a write waits for the reader of a FIFO or a terminal. Raises OSError;
    PermissionError for a link that belongs to neither root nor this user.
    """
    flags = _APPEND | (os.O_NONBLOCK if nonblocking else 0)
    names = deque(_names(os.path.abspath(path)))
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    links = 0
    try:
        while True:
            name = names.popleft() if names else "."
            if _is_in_proc(folder):
                return os.open("/".join((name, *names)), flags, 0o666, dir_fd=folder)
            found = _lstat(name, folder)
            if found is not None and stat.S_ISLNK(found.st_mode):
                links += 1
                target = _target(name, folder, found, path, links)
                names.extendleft(reversed(_names(target)))
                step = os.open("/" if target.startswith("/") else ".", os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
            elif not names:
                return os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)
            else:
                step = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = step
    finally:
        os.close(folder)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _lstat(name: str, folder: int) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


def _target(name: str, folder: int, link: os.stat_result, path: str, links: int) -> str:
    if link.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EACCES, f"{name} is a link that another user has made", path)
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.readlink(name, dir_fd=folder)


def _is_in_proc(folder: int) -> bool:
    try:
        return os.fstat(folder).st_dev == os.stat("/proc").st_dev != os.stat("/").st_dev
    except OSError:
        return False
