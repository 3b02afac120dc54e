"""The options of a socket: the section `[socket:NAME]`, declared as `model.py` declares the others.

It is a separate module because a worker that binds its own socket needs no other section, and starts faster without.
"""

from __future__ import annotations

from dataclasses import dataclass
from socket import AddressFamily, SocketKind

from forkserve.config.options import ReloadCost, option
from forkserve.config.values import (
    at_least,
    between,
    boolean,
    family,
    integer,
    optional,
    optional_integer,
    optional_octal,
    socket_type,
    text,
)

__all__ = ["SocketOptions"]

LIVE, REBIND, RESTART = ReloadCost.LIVE, ReloadCost.REBIND, ReloadCost.RESTART


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """A section `[socket:NAME]`: one listening socket, bound by the master and inherited by any command."""

    name: str
    host: str = option(
        "localhost", "Host name or address; 0.0.0.0 or :: for every address.", reload=REBIND, metavar="HOST"
    )
    port: int = option(
        8080, "Port; 0 lets the kernel choose one.", parse=integer, check=between(0, 65535), reload=REBIND
    )
    family: AddressFamily = option(
        AddressFamily.AF_INET, "AF_INET, AF_INET6 or AF_UNIX; a path means AF_UNIX.", parse=family, reload=REBIND
    )
    type: SocketKind = option(
        SocketKind.SOCK_STREAM,
        "SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM or SOCK_SEQPACKET.",
        parse=socket_type,
        reload=REBIND,
    )
    proto: str | None = option(None, "Name of the protocol, as in /etc/protocols.", parse=optional(text), reload=REBIND)
    backlog: int = option(
        2048, "Connections that may wait to be accepted.", parse=integer, check=at_least(1), reload=LIVE
    )
    path: str | None = option(
        None, "Path of a unix socket; @NAME is abstract.", parse=optional(text), reload=REBIND, metavar="PATH"
    )
    umask: int | None = option(
        None,
        "umask while a unix socket is bound, octal; `mode` overrides it.",
        parse=optional_octal,
        reload=LIVE,
    )
    mode: int | None = option(
        None, "File mode of a unix socket, octal, such as 0660.", parse=optional_octal, reload=LIVE, metavar="OCTAL"
    )
    owner: str | None = option(
        None, "Owner of a unix socket's file, by name or number.", parse=optional(text), reload=LIVE, metavar="USER"
    )
    group: str | None = option(
        None, "Group of a unix socket's file, by name or number.", parse=optional(text), reload=LIVE, metavar="GROUP"
    )
    replace: bool = option(
        False, "Replace a unix socket's file even if another program listens on it.", parse=boolean, reload=LIVE
    )
    interface: str | None = option(
        None, "Network interface to bind to (SO_BINDTODEVICE).", parse=optional(text), reload=REBIND
    )
    so_reuseport: bool = option(
        False,
        "Give each slot its own queue of this TCP port (SO_REUSEPORT); the kernel spreads new connections at random "
        "over slots whose process is ready.",
        parse=boolean,
        reload=LIVE,
    )
    blocking: bool | None = option(
        None,
        "Whether accept(2) blocks, for all processes that share the socket. If not set, a new socket blocks and an "
        "inherited one is left as it is; servers such as forkserve-worker set O_NONBLOCK themselves.",
        parse=optional(boolean),
        reload=LIVE,
    )
    keep: bool = option(
        True,
        "Keep the socket open while every watcher that uses it is stopped; if False, it is closed then, and bound "
        "again at the start.",
        parse=boolean,
        reload=LIVE,
    )
    fd: int | None = option(
        None,
        "Use this open descriptor instead of binding.",
        parse=optional_integer,
        check=at_least(0),
        reload=RESTART,
        metavar="N",
    )
