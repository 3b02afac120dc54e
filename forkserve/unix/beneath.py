"""Opening a file that lies below a folder and nowhere else, even while folders and links are being moved.

Checking a path and then opening it leaves a moment in which a folder can be swapped for a link. openat2(2) of Linux 5.6
checks each step of the path as it takes it. If that call is missing, or refused by an older seccomp filter, the same is
done by an open for each step.
"""

from __future__ import annotations

import ctypes
import errno
import os

__all__ = ["open_beneath", "openat2", "walk"]

_SYS_OPENAT2 = 437
"""The same on every architecture except alpha."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)
_missing = False


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open `path`, relative and without links or `..`, below the folder with this descriptor.

    `flags` as for open(2). Raises OSError, also if a part of the path is a link.
    """
    global _missing
    if not _missing:
        try:
            return openat2(folder, path, flags)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            _missing = error.errno == errno.ENOSYS
    return walk(folder, path, flags)


def openat2(folder: int, path: str, flags: int) -> int:
    """Use the kernel's call. Raises OSError; ENOSYS or EPERM if the call cannot be used."""
    how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    fd = int(
        _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_long(folder),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def walk(folder: int, path: str, flags: int) -> int:
    """Do it step by step. Raises OSError; ValueError for `..`, which would lead up."""
    *steps, last = path.split("/")
    if ".." in (*steps, last) or path.startswith("/"):
        raise ValueError(f"{path!r} does not lie below its folder")
    at = folder
    try:
        for step in steps:
            below = os.open(step, _STEP, dir_fd=at)
            at, above = below, at
            if above != folder:
                os.close(above)
        return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    finally:
        if at != folder:
            os.close(at)
