"""The sockets that a worker serves on: inherited by number or by LISTEN_FDS, or bound here if there is no master.

Rules: a socket is rebuilt from its descriptor alone, which determines family and type. If the descriptor is anything
but a listening socket, the error says what it is and how to fix that. A worker never calls listen() on an inherited
socket, since that would replace the backlog that the master has set. One exception: a new abstract Unix socket of a
reload listens only when a worker serves, see `InheritedListener.begin`.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
from collections.abc import MutableMapping, Sequence

from forkserve.config.address import Address, parse_address
from forkserve.config.launch import ListenOptions
from forkserve.config.sockets import SocketOptions
from forkserve.errors import UsageError
from forkserve.unix.listeners import address_of, bind
from forkserve.unix.notify import take_listen_fds
from forkserve.unix.socketfiles import SocketFile

__all__ = ["KEPT", "InheritedListener", "backlog_of", "describe", "inherited", "open_listeners", "read_fd"]

KEPT = "FORKSERVE_KEPT_FDS"
"""Variable in which a worker that executes itself again names the sockets that it keeps."""
QUOTING = "quote it: --fd '$(circus.sockets.web)'"
ALONE = "or bind one here: --bind :8000"
_PLACEHOLDER = re.compile(r"\$\(circus\.|\(\(circus\.", re.IGNORECASE)
SO_ACCEPTCONN = getattr(socket, "SO_ACCEPTCONN", 30)


class InheritedListener(socket.socket):
    """A socket that listens already: listen() was called where it was bound, and does nothing here."""

    file: SocketFile | None = None
    """What must be removed at the end, if it was bound here."""
    own = False
    """Whether it was bound here, so that no other process accepts from it."""
    late = False
    """Whether it did not listen yet when it was inherited."""

    def listen(self, backlog: int = 0, /) -> None:
        """Leave the backlog as it is."""

    def begin(self) -> None:
        """Accept clients, as this process serves from now on; the master sets the backlog later."""
        if self.late:
            super().listen()


def open_listeners(options: ListenOptions, environ: MutableMapping[str, str]) -> tuple[InheritedListener, ...]:
    """Return the listeners, non-blocking; raises UsageError for a bad --fd, BindError for a bad --bind.

    The variables about descriptors are removed from `environ`, since they are not meant for the application's children.
    """
    kept = environ.pop(KEPT, "")
    if kept:
        return tuple(_kept(int(fd), options) for fd in kept.split(","))
    handed = take_listen_fds(environ)
    listeners = [inherited(read_fd(text), "--fd") for text in options.fd]
    for address in _addresses(options):
        if address.fd is not None:
            listeners.append(inherited(address.fd, f"fd://{address.fd}"))
        else:
            listeners.append(_bind(address, options.backlog))
    if not listeners:
        listeners = [inherited(fd, "LISTEN_FDS") for fd in handed.values()]
    if not listeners:
        listeners = [_bind(Address("127.0.0.1", 8000), options.backlog)]
    for each in listeners:
        _check(each, options)
    return tuple(listeners)


def read_fd(text: str) -> int:
    """Parse the value of --fd; raises UsageError that tells an expanded placeholder from one that was not replaced."""
    if _PLACEHOLDER.search(text):
        raise UsageError(
            f"--fd {text}: only forkserve puts a number in place of it; start this command by "
            f"forkserve --fd-socket web=:8000 -- forkserve-worker --fd '$(circus.sockets.web)' ..., {ALONE}"
        )
    number = text.strip().removeprefix("fd://")
    if number.isdecimal():
        return int(number)
    if not number:
        raise UsageError(f"--fd is empty: if the shell has taken the placeholder for itself, {QUOTING}")
    raise UsageError(
        f"--fd is followed by {text!r}, not by a number: if the shell has eaten the placeholder, {QUOTING}"
    )


def inherited(fd: int, source: str) -> InheritedListener:
    """Rebuild the socket of an inherited descriptor; raises UsageError that says what it is instead."""
    label = f"{source} {fd}" if source == "--fd" else f"{source} (descriptor {fd})"
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        raise UsageError(
            f"{label}: no descriptor {fd} is open here; was it inherited? forkserve hands it over if the command "
            f"names the socket, {ALONE}"
        ) from None
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{label}: descriptor {fd} is {_kind(mode)}, not a socket")
    os.set_inheritable(fd, False)
    listener = InheritedListener(fileno=fd)
    if listener.type != socket.SOCK_STREAM:
        raise UsageError(f"{label}: is a {_name(listener.type)} socket; HTTP needs SOCK_STREAM")
    listener.late = not listener.getsockopt(socket.SOL_SOCKET, SO_ACCEPTCONN)
    if listener.late and not _is_abstract(listener):
        raise UsageError(f"{label}: the socket does not listen; bind it and call listen() before handing it over")
    listener.setblocking(False)
    return listener


def _is_abstract(listener: socket.socket) -> bool:
    return listener.family == socket.AF_UNIX and isinstance(name := listener.getsockname(), bytes) and bool(name)


def describe(listener: socket.socket, *, tls: bool = False) -> str:
    """Return where it listens, as people write it: `http://127.0.0.1:8000` or `unix:/run/web.sock`."""
    address = address_of(listener)
    return address if listener.family == socket.AF_UNIX else f"http{'s' * tls}://{address}"


def backlog_of(listener: socket.socket) -> int:
    """Return the backlog that was set, for libraries that insist on calling listen(2); a guess if it is unknown.

    For a listening socket Linux returns it as tcpi_sacked of struct tcp_info, at byte 28 (tcp_get_info, since 2.6.24).
    """
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int(struct.unpack_from("=I", info, 28)[0]) or socket.SOMAXCONN
    except (OSError, AttributeError):
        return socket.SOMAXCONN


def _addresses(options: ListenOptions) -> Sequence[Address]:
    found = list(options.bind)
    if options.uds is not None:
        found.append(Address(path=options.uds))
    host = options.host
    if host is not None and host.startswith(("unix:", "fd://")):
        if options.port is not None and "PORT" not in os.environ:
            raise UsageError(f"--port does not go with --host {host}")
        found.append(_address(host))
    elif host is not None:
        found.append(Address(host.strip("[]"), 8000 if options.port is None else options.port))
    elif options.port is not None and not found and not options.fd:
        found.append(Address("0.0.0.0", options.port))
    return found


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise UsageError(f"--host: {error}") from None


def _bind(address: Address, backlog: int) -> InheritedListener:
    family = socket.AF_UNIX if address.path is not None else socket.AF_INET
    options = SocketOptions(
        name="web", host=address.host, port=address.port, family=family, path=address.path, backlog=backlog
    )
    made = bind(options)
    listener = InheritedListener(fileno=made.socket.detach())
    # The object must know it too: its duplicates are made to block otherwise, and with them the one socket beneath.
    listener.setblocking(False)
    listener.file = made.file
    listener.own = True
    return listener


def _kept(fd: int, options: ListenOptions) -> InheritedListener:
    """Take over a socket from this same process before it executed itself again, and its file if it had created one."""
    listener = inherited(fd, KEPT)
    name = listener.getsockname()
    addresses = _addresses(options)
    # Where both kinds were given they are not distinguished; taking one for the other does no harm.
    listener.own = bool(addresses) and not options.fd and all(each.fd is None for each in addresses)
    if listener.family == socket.AF_UNIX and name in {each.path for each in addresses}:
        with contextlib.suppress(OSError):
            found = os.lstat(name)
            listener.file = SocketFile(name, found.st_dev, found.st_ino)
    return listener


def _check(listener: InheritedListener, options: ListenOptions) -> None:
    if options.address_family not in (None, listener.family):
        raise UsageError(f"--address-family {_name(options.address_family)}: the socket is {_name(listener.family)}")
    if options.socket_type not in (None, listener.type):
        raise UsageError(f"--socket-type {_name(options.socket_type)}: the socket is {_name(listener.type)}")


def _name(constant: object) -> str:
    return getattr(constant, "name", str(constant))


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISREG, "a file"), (stat.S_ISCHR, "a terminal or device"), (stat.S_ISFIFO, "a pipe"))
    return next((name for test, name in kinds if test(mode)), "something else")
