"""Explains in words why an address could not be bound, which program has it, and what to do.

Rules: only used after a failure, so it may read all of /proc. What it cannot find out it leaves out.
"""

from __future__ import annotations

import contextlib
import errno
import os
from socket import SocketKind

from forkserve.config.sockets import SocketOptions

__all__ = ["occupant", "why_not"]

_FIRST_FREE_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


def why_not(options: SocketOptions, error: OSError) -> str:
    """Return the reason and the remedy for a failed bind(2)."""
    reason = error.strerror or str(error)
    reason = reason[:1].lower() + reason[1:]
    return f"{reason}{_cure(options, error.errno or 0)}"


def _cure(options: SocketOptions, number: int) -> str:
    if options.path is not None:
        folder = os.path.dirname(options.path) or "."
        return _CURES_OF_PATHS.get(number, "").format(folder=folder, options=options)
    if number == errno.EADDRINUSE:
        return f"{occupant(options.port, options.type)}; stop that program, or choose another port"
    if number in (errno.EACCES, errno.EPERM):
        return _cure_of_rights(options)
    return _CURES.get(number, "").format(options=options)


_CURES = {
    errno.EADDRNOTAVAIL: ": no interface here has it; for every address say 0.0.0.0 instead of {options.host}",
    errno.ENODEV: ": interface = {options.interface}",
    errno.EAFNOSUPPORT: ": IPv6 is switched off here; use 0.0.0.0",
}

_CURES_OF_PATHS = {
    errno.ENOENT: ": make the directory {folder} first",
    errno.EADDRINUSE: "; stop the other program, or choose another name",
    errno.EROFS: "; choose a path in a writable place such as /run or /dev/shm",
    errno.EACCES: ": this user may not write to {folder}",
    errno.EPERM: ": only root may give the socket to {options.owner}:{options.group}",
}


def _cure_of_rights(options: SocketOptions) -> str:
    first = _first_free_port()
    if options.port < first:
        return f"; ports below {first} need root or CAP_NET_BIND_SERVICE"
    return "" if options.interface is None else f"; interface = {options.interface} needs root or CAP_NET_RAW"


def _first_free_port() -> int:
    with contextlib.suppress(OSError, ValueError), open(_FIRST_FREE_PORT) as file:
        return int(file.read())
    return 1024


def occupant(port: int, kind: SocketKind) -> str:
    """Return " by NAME (pid N)" for the process that holds the port, or "" if /proc does not tell this user."""
    import psutil  # only on the way out, so that a healthy master never pays for it

    with contextlib.suppress(psutil.Error, OSError, ValueError):
        # the oldest of several: who has bound it, not who has inherited it
        pid = min(
            each.pid
            for each in psutil.net_connections("udp" if kind is SocketKind.SOCK_DGRAM else "tcp")
            if each.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
            and (each.laddr and each.laddr.port == port and each.pid is not None)
        )
        return f" by {psutil.Process(pid).name()} (pid {pid})"
    return ""
