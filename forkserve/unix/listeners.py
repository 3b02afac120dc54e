"""Prepares one listening socket: bound, listening, without delay, closed on exec.

O_NONBLOCK belongs to the open file that all processes share, so setting it sets it for all. By default a socket is left
blocking: then a program that blocks in accept(2) works, and those that need O_NONBLOCK set it themselves (ours,
asyncio, Gunicorn). TCP_NODELAY is inherited by accepted sockets (tcp(7)); without it servers that write head and body
separately wait for delayed acknowledgements: 0.7k instead of 10-20k requests a second, measured with two of them.

`[::]` accepts IPv4 too (IPV6_V6ONLY off, whatever the machine's default), unless told otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from socket import AddressFamily, SocketKind

from forkserve.config.sockets import SocketOptions
from forkserve.errors import BindError, ExitCode
from forkserve.unix.bind_errors import why_not
from forkserve.unix.privileges import group_id, user_id
from forkserve.unix.sealing import is_shut, is_waiting, seal, unseal
from forkserve.unix.slotqueues import SlotQueues, can_have_slots
from forkserve.unix.socketfiles import Owners, SocketFile, bind_file, change_access, clear_stale, sweep_hidden

__all__ = ["BindTarget", "BoundListener", "address_of", "adopt", "bind", "resolve"]

_Socket = socket.socket
_LISTENING = (SocketKind.SOCK_STREAM, SocketKind.SOCK_SEQPACKET)


@dataclass(frozen=True, slots=True)
class BindTarget:
    """The resolved names of a socket's options: numbers, for which no further look-up is needed.

    `address` is the argument of bind(2), None for a path or a descriptor. `is_abstract` means that we have bound a Unix
    socket without a file. Plain data, so that a helper can look it up.
    """

    family: AddressFamily
    proto: int = 0
    address: tuple[str, int] | None = None
    owners: Owners = field(default_factory=Owners)
    is_abstract: bool = False


@dataclass(frozen=True, slots=True)
class BoundListener:
    """A named, bound socket. Its owner closes it; `file` must be removed then.

    With `so_reuseport` it has more sockets at its address, one for each slot except the first (`slots`).
    """

    options: SocketOptions
    socket: socket.socket
    target: BindTarget
    file: SocketFile | None = None
    v6only: bool = False
    slots: SlotQueues = field(default_factory=SlotQueues)

    @property
    def name(self) -> str:
        """The name by which commands refer to it."""
        return self.options.name

    @property
    def fd(self) -> int:
        """Its descriptor in the master."""
        return self.socket.fileno()

    @property
    def sockets(self) -> tuple[_Socket, ...]:
        """All sockets at its address, that of the first slot first."""
        return (self.socket, *self.slots.sockets.values())

    @property
    def has_slots(self) -> bool:
        """True when each slot has its own queue, or will."""
        return (
            self.options.so_reuseport
            and self.target.address is not None
            and can_have_slots(self.socket)
            and self.slots.can_begin(self.socket)
        )

    def fd_of(self, wid: int) -> int:
        """Return the descriptor of the queue that a slot reads from, which is bound if it is new; raises BindError.

        An existing one is still found after `so_reuseport` was switched off, by the process that empties it.
        """
        if wid in self.slots.sockets:
            return self.slots.sockets[wid].fileno()
        if not self.has_slots:
            return self.fd
        with _or_bind_error(self.options, self.address):
            return self.slots.add(wid, self.socket, self._another).fileno()

    def _another(self) -> _Socket:
        """Return another socket that listens at the address; raises OSError."""
        with _closing(self.socket.family, self.options, self.socket.proto) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family is AddressFamily.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self.v6only))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self.options.interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.options.interface.encode() + b"\0")
            sock.bind(self.socket.getsockname())
            _make_ready(sock, self.options)
            return sock

    @property
    def address(self) -> str:
        """Its real address: `127.0.0.1:8000`, `[::]:8000`, `unix:/path`, `unix:@abstract`."""
        return address_of(self.socket) if self.is_open else _configured(self.options)

    @property
    def is_ours(self) -> bool:
        """True if we have bound it; an inherited one stays as it was bound, whatever the options say."""
        return self.target.address is not None or self.file is not None

    @property
    def is_open(self) -> bool:
        """False after `close`."""
        return self.socket.fileno() >= 0

    @property
    def is_abstract(self) -> bool:
        """True for a Unix socket without a file, which cannot be hidden: it listens once a process reads from it."""
        return self.target.is_abstract

    @property
    def is_reachable(self) -> bool:
        """True while clients find it; a cleaner of /tmp may have removed the file of a Unix socket."""
        return self.is_open and (self.file is None or not self.file.is_missing) and not is_shut(self.socket)

    @property
    def is_waiting(self) -> bool:
        """True while something waits in its queue."""
        return self.is_open and any(map(is_waiting, self.sockets))

    def adjust(self, *, lets_in: bool = True) -> None:
        """Apply the options that need no new socket: backlog, blocking, sharing of the port, and access to the file.

        It accepts connections again if it was sealed, unless told otherwise. Raises BindError.
        """
        if lets_in:
            self._unseal()
        with _or_bind_error(self.options, self.address):
            for sock in self.sockets:
                _make_ready(sock, self.options, listens=lets_in or not self.is_abstract)
            if self.target.address is not None:
                shares = self.options.so_reuseport or bool(self.slots.sockets)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
            if self.file is not None:
                change_access(self.options, self.file.path, self.target.owners)

    def share_port(self) -> None:
        """Let another socket of ours be bound to the same port beside it (SO_REUSEPORT, also after bind)."""
        if self.options.path is None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.slots.release(self.socket)

    def shown(self) -> BoundListener:
        """Make a hidden socket reachable; raises BindError."""
        self._unseal()
        if self.is_abstract and not is_shut(self.socket):
            with _or_bind_error(self.options, self.address):
                _make_ready(self.socket, self.options)
        if self.file is None or self.options.path is None:
            return self
        return replace(self, file=self.file.shown(self.options.path))

    def seal(self) -> None:
        """Let no new connection in; what waits in its queue can still be accepted."""
        for sock in self.sockets:
            seal(sock)
        if self.file is not None:
            self.file.remove()

    def _unseal(self) -> None:
        for sock in self.sockets:
            unseal(sock)

    def refuse(self) -> None:
        """End listening for all that share it: clients are refused; on Linux shutdown(2) of a listener does it."""
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)

    def leave(self) -> None:
        """Close it in this process only, and leave its file where it is."""
        self.slots.close()
        self.socket.close()

    def close(self) -> None:
        """Close it, and remove its file if that is still ours."""
        if self.file is not None:
            self.file.remove()
        self.slots.close()
        self.socket.close()


def address_of(sock: socket.socket) -> str:
    """Return the address of a socket as people write it."""
    name = sock.getsockname()
    if sock.family is AddressFamily.AF_UNIX:
        return f"unix:@{os.fsdecode(name[1:])}" if isinstance(name, bytes) else f"unix:{name}"
    return _address_text(name[0], name[1])


def _configured(options: SocketOptions) -> str:
    return f"unix:{options.path}" if options.path is not None else _address_text(options.host, options.port)


def _address_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def adopt(options: SocketOptions, fd: int) -> BoundListener:
    """Take over a descriptor that another program has bound; raises BindError if it is not such a socket.

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
    return BoundListener(options, sock, BindTarget(AddressFamily(sock.family)))


def _is_bound(sock: socket.socket) -> bool:
    name = sock.getsockname()
    return bool(name) if sock.family is AddressFamily.AF_UNIX else bool(name[1])


def bind(
    options: SocketOptions,
    target: BindTarget | None = None,
    *,
    v6only: bool = False,
    beside: bool = False,
    hidden: bool = False,
) -> BoundListener:
    """Bind as the options say; raises BindError in one line that says what to do, with nothing left open.

    Without a `target` the names are looked up, which may wait for a name server. `beside` binds to a port where a
    socket of ours, prepared by `share_port`, still listens. `hidden` lets no client in until `shown`, except at a
    shared port, where clients would be kept from the other socket. An abstract socket does not listen until then, or
    until a worker that reads from it makes it listen.
    """
    target = target or resolve(options)
    if options.path is not None:
        return _bind_unix(options, options.path, target, hidden=hidden)
    family, address = target.family, target.address or ("", 0)
    with (
        _or_bind_error(options, _address_text(address[0], address[1])),
        _closing(family, options, target.proto) as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is AddressFamily.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        if options.so_reuseport or beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if options.interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.interface.encode() + b"\0")
        sock.bind(address)
        if hidden and not beside:
            seal(sock)
        _make_ready(sock, options)
        return BoundListener(options, sock, target, v6only=v6only)


def resolve(options: SocketOptions) -> BindTarget:
    """Look up the names in a socket's options: host, protocol, owner and group; raises BindError or ConfigError.

    It blocks on the name server and the user directory, for as long as they take.
    """
    owners = Owners(
        uid=-1 if options.owner is None else user_id(options.owner),
        gid=-1 if options.group is None else group_id(options.group),
    )
    if options.path is not None or options.fd is not None:
        return BindTarget(AddressFamily.AF_UNIX, owners=owners)
    if options.family is AddressFamily.AF_UNIX:
        raise BindError(f"socket {options.name}: a unix socket needs a path, such as path = /run/app.sock")
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
    return BindTarget(family, proto, found[0][4], owners)  # type: ignore[arg-type]


def _make_ready(sock: socket.socket, options: SocketOptions, *, listens: bool = True) -> None:
    if options.blocking is not None:
        sock.setblocking(options.blocking)
    if sock.type in _LISTENING and listens:
        sock.listen(options.backlog)  # a second time it changes the backlog alone, and loses nothing
    if sock.family is not AddressFamily.AF_UNIX and sock.type is SocketKind.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bind_unix(options: SocketOptions, path: str, target: BindTarget, *, hidden: bool) -> BoundListener:
    is_abstract = path.startswith("@")
    if not is_abstract:
        clear_stale(options, path)
        sweep_hidden(path, options.type)
    with _or_bind_error(options, f"unix:{path}"), _closing(AddressFamily.AF_UNIX, options, 0) as sock:
        if is_abstract:
            sock.bind(b"\0" + os.fsencode(path[1:]))
            _make_ready(sock, options, listens=not hidden)
            return BoundListener(options, sock, replace(target, is_abstract=True))
        file = bind_file(sock, options, path, target.owners)
        listener = BoundListener(options, sock, target, file.hidden() if hidden else file)
        try:
            _make_ready(sock, options)
        except OSError:
            listener.close()
            raise
        return listener


@contextlib.contextmanager
def _closing(family: AddressFamily, options: SocketOptions, proto: int) -> Iterator[socket.socket]:
    """Yield a socket that is closed if the body fails."""
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
