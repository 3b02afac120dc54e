"""Makes one listening socket ready: bound, listening, without delay, closed on exec.

O_NONBLOCK belongs to the open file that all processes share, so whoever sets it sets it for all. Unless told otherwise
a socket is left as it was made, blocking: a program that waits in accept(2) works then, and those that need O_NONBLOCK
set it themselves (ours, asyncio, Gunicorn). TCP_NODELAY is
inherited by accepted sockets (tcp(7)); without it servers that write head and body apart wait for delayed
acknowledgements: 0.7k instead of 10-20k requests a second, measured with two of them.

`[::]` accepts IPv4 too (IPV6_V6ONLY off, whatever the machine's default), unless told otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from socket import AddressFamily, SocketKind

from forkserve.config.model import SocketOptions
from forkserve.errors import BindError, ExitCode
from forkserve.unix.bind_errors import why_not
from forkserve.unix.socketfiles import SocketFile, bind_file, change_access, clear_stale

__all__ = ["Listener", "address_of", "adopt", "bind"]

_LISTENING = (SocketKind.SOCK_STREAM, SocketKind.SOCK_SEQPACKET)


@dataclass(frozen=True, slots=True)
class Listener:
    """A named socket that is bound. Its owner closes it; `file` is what then must be removed."""

    options: SocketOptions
    socket: socket.socket
    file: SocketFile | None = None
    is_adopted: bool = False
    """Somebody else has bound it."""

    @property
    def takes_ipv4_too(self) -> bool:
        """True for `[::]` that also gets what comes for 0.0.0.0; it is decided before bind (ipv6(7))."""
        return self.socket.family is AddressFamily.AF_INET6 and not self.socket.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )

    @property
    def name(self) -> str:
        """The name under which commands ask for it."""
        return self.options.name

    @property
    def fd(self) -> int:
        """Its descriptor in the master."""
        return self.socket.fileno()

    @property
    def address(self) -> str:
        """Its real address: `127.0.0.1:8000`, `[::]:8000`, `unix:/path`, `unix:@abstract`."""
        return address_of(self.socket)

    def adjust(self) -> None:
        """Apply the options that need no new socket: backlog, blocking, and access to the file; raises BindError."""
        with _or_bind_error(self.options, self.address):
            _make_ready(self.socket, self.options)
            if self.file is not None:
                change_access(self.options, self.file.path)

    def share_port(self) -> None:
        """Let another socket of ours be bound to the same port beside it (SO_REUSEPORT, also after bind)."""
        if self.options.path is None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def close(self) -> None:
        """Close it, and remove its file if that is still ours."""
        if self.file is not None:
            self.file.remove()
        self.socket.close()


def address_of(sock: socket.socket) -> str:
    """Return the address of a socket as a person writes it."""
    name = sock.getsockname()
    if sock.family is AddressFamily.AF_UNIX:
        return f"unix:@{os.fsdecode(name[1:])}" if isinstance(name, bytes) else f"unix:{name}"
    return _address_text(name[0], name[1])


def _address_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def adopt(options: SocketOptions, fd: int) -> Listener:
    """Take over a descriptor that somebody else bound; raises BindError when it is no such socket.

    The descriptor is ours from here on, and closed on exec. A file that belongs to it is not ours to remove.
    """
    place = f"socket {options.name}: descriptor {fd}"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        reason = "is not open here" if error.errno == errno.EBADF else "is no socket"
        raise BindError(f"{place} {reason}; was it handed over to forkserve?") from None
    try:
        if sock.type in _LISTENING and not _is_bound(sock):
            raise BindError(f"{place} is a socket without an address; bind it before handing it over")
        sock.set_inheritable(False)
        with _or_bind_error(options, f"fd://{fd}"):
            _make_ready(sock, options)
    except BindError:
        sock.detach()
        raise
    return Listener(options, sock, is_adopted=True)


def _is_bound(sock: socket.socket) -> bool:
    name = sock.getsockname()
    return bool(name) if sock.family is AddressFamily.AF_UNIX else bool(name[1])


def bind(options: SocketOptions, *, v6only: bool = False, beside: bool = False) -> Listener:
    """Bind what the options say; raises BindError in one line that says what to do, with nothing left open.

    `beside` binds to a port where a socket of ours, prepared by `share_port`, listens still.
    """
    if options.path is not None:
        return _bind_unix(options, options.path)
    if options.family is AddressFamily.AF_UNIX:
        raise BindError(f"socket {options.name}: a unix socket needs a path, such as path = /run/app.sock")
    family, proto, address = _resolve(options)
    with _or_bind_error(options, _address_text(address[0], address[1])), _closing(family, options, proto) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is AddressFamily.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        if options.so_reuseport or beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if options.interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.interface.encode() + b"\0")
        sock.bind(address)
        _make_ready(sock, options)
        return Listener(options, sock)


def _resolve(options: SocketOptions) -> tuple[AddressFamily, int, tuple[str, int]]:
    host = options.host.strip("[]")
    family = AddressFamily.AF_INET6 if ":" in host else options.family
    try:
        proto = socket.getprotobyname(options.proto) if options.proto else 0
    except OSError:
        raise BindError(f"socket {options.name}: unknown protocol {options.proto!r}; see /etc/protocols") from None
    try:
        found = socket.getaddrinfo(host or None, options.port, family, options.type, proto, socket.AI_PASSIVE)
    except socket.gaierror as error:
        reason = (error.strerror or str(error)).lower()
        raise BindError(f"socket {options.name}: cannot resolve host {options.host!r}: {reason}") from None
    # All of it, since the address of a link such as fe80::1%eth0 is more than host and port.
    return family, proto, found[0][4]  # type: ignore[return-value]


def _make_ready(sock: socket.socket, options: SocketOptions) -> None:
    if options.blocking is not None:
        sock.setblocking(options.blocking)
    if sock.type in _LISTENING:
        sock.listen(options.backlog)  # a second time it changes the backlog alone, and loses nothing
    if sock.family is not AddressFamily.AF_UNIX and sock.type is SocketKind.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bind_unix(options: SocketOptions, path: str) -> Listener:
    is_abstract = path.startswith("@")
    if not is_abstract:
        clear_stale(options, path)
    with _or_bind_error(options, f"unix:{path}"), _closing(AddressFamily.AF_UNIX, options, 0) as sock:
        if is_abstract:
            sock.bind(b"\0" + os.fsencode(path[1:]))
            _make_ready(sock, options)
            return Listener(options, sock)
        listener = Listener(options, sock, bind_file(sock, options, path))
        try:
            _make_ready(sock, options)
        except OSError:
            listener.close()
            raise
        return listener


@contextlib.contextmanager
def _closing(family: AddressFamily, options: SocketOptions, proto: int) -> Iterator[socket.socket]:
    """Make a socket that is closed if the body fails."""
    sock = socket.socket(family, options.type, proto)
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


@contextlib.contextmanager
def _or_bind_error(options: SocketOptions, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure = BindError(f"socket {options.name}: cannot bind {where}: {why_not(options, error)}")
        if isinstance(error, PermissionError):
            failure.exit_code = ExitCode.NO_PERMISSION
        raise failure from None
