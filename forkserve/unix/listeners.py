"""Makes one listening socket ready: bound, listening, non-blocking, without delay, closed on exec.

O_NONBLOCK belongs to the open file that all processes share, so it is set here, once, whoever accepts. TCP_NODELAY is
inherited by accepted sockets (tcp(7)); without it servers that write head and body apart wait for delayed
acknowledgements: 0.7k instead of 10-20k requests a second, measured with two of them.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from socket import AddressFamily, SocketKind

from forkserve.config.model import SocketOptions
from forkserve.errors import BindError

__all__ = ["Listener", "adopt", "address_of", "bind"]

_LISTENING = (SocketKind.SOCK_STREAM, SocketKind.SOCK_SEQPACKET)


@dataclass(frozen=True, slots=True)
class Listener:
    """A named socket that is bound; `inode` is that of its file, when it is ours to remove."""

    options: SocketOptions
    socket: socket.socket
    inode: int | None = None

    @property
    def name(self) -> str:
        """The name under which commands ask for it."""
        return self.options.name

    @property
    def address(self) -> str:
        """Its real address: `127.0.0.1:8000`, `[::]:8000`, `unix:/path`, `unix:@abstract`."""
        return address_of(self.socket)

    def close(self) -> None:
        """Close it, and remove its file unless somebody has put another in its place."""
        path = self.options.path
        if path is not None and self.inode is not None:
            with contextlib.suppress(OSError):  # gone already, or read-only by now: nothing is left to do
                if os.stat(path).st_ino == self.inode:
                    os.unlink(path)
        self.socket.close()


def address_of(sock: socket.socket) -> str:
    """Return the address of a socket as a person writes it."""
    name = sock.getsockname()
    if sock.family is AddressFamily.AF_UNIX:
        return f"unix:@{os.fsdecode(name[1:])}" if isinstance(name, bytes) else f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family is AddressFamily.AF_INET6 else f"{name[0]}:{name[1]}"


def adopt(options: SocketOptions, fd: int) -> Listener:
    """Take over a descriptor that somebody else bound; raises BindError when it is no such socket.

    The descriptor is ours from here on, and closed on exec.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise BindError(f"socket {options.name}: descriptor {fd} is no socket: {error.strerror}") from None
    sock.set_inheritable(False)
    if sock.type in _LISTENING and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        if not sock.getsockname():
            sock.detach()
            raise BindError(f"socket {options.name}: descriptor {fd} is not bound to an address")
        sock.listen(options.backlog)
    _make_ready(sock, options)
    return Listener(options, sock)


def bind(options: SocketOptions, *, v6only: bool = False) -> Listener:
    """Bind what the options say; raises BindError in one line that says what to do."""
    if options.path is not None:
        return _bind_unix(options, options.path)
    family, proto, address = _resolve(options)
    with _or_bind_error(options, address_text(family, address)):
        sock = socket.socket(family, options.type, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is AddressFamily.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
            if options.so_reuseport:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if options.interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.interface.encode() + b"\0")
            sock.bind(address)
            _listen(sock, options)
        except OSError:
            sock.close()
            raise
    return Listener(options, sock)


def address_text(family: AddressFamily, address: tuple[str, int]) -> str:
    """Return a wanted address as a person writes it."""
    return f"[{address[0]}]:{address[1]}" if family is AddressFamily.AF_INET6 else f"{address[0]}:{address[1]}"


def _resolve(options: SocketOptions) -> tuple[AddressFamily, int, tuple[str, int]]:
    family = AddressFamily.AF_INET6 if ":" in options.host else options.family
    proto = socket.getprotobyname(options.proto) if options.proto else 0
    try:
        found = socket.getaddrinfo(options.host or None, options.port, family, options.type, proto, socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise BindError(f"socket {options.name}: host {options.host!r}: {error.strerror}") from None
    host, port = found[0][4][:2]
    return family, proto, (str(host), int(port))


def _listen(sock: socket.socket, options: SocketOptions) -> None:
    if sock.type in _LISTENING:
        sock.listen(options.backlog)
    _make_ready(sock, options)


def _make_ready(sock: socket.socket, options: SocketOptions) -> None:
    sock.setblocking(options.blocking)
    if sock.family is not AddressFamily.AF_UNIX and sock.type is SocketKind.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bind_unix(options: SocketOptions, path: str) -> Listener:
    if path.startswith("@"):
        with _or_bind_error(options, f"unix:{path}"):
            sock = socket.socket(AddressFamily.AF_UNIX, options.type)
            sock.bind(b"\0" + path[1:].encode())
            _listen(sock, options)
        return Listener(options, sock)
    _clear_stale(options, path)
    with _or_bind_error(options, f"unix:{path}"):
        sock = socket.socket(AddressFamily.AF_UNIX, options.type)
        try:
            _bind_with_mode(sock, options, path)
            _listen(sock, options)
        except OSError:
            sock.close()
            raise
    return Listener(options, sock, os.stat(path).st_ino)


def _bind_with_mode(sock: socket.socket, options: SocketOptions, path: str) -> None:
    """Bind under a umask, so that the file never has a wider mode than it shall, not even for a moment."""
    umask = options.umask if options.mode is None else 0o777 & ~options.mode
    previous = os.umask(0o777 if umask is None else umask)
    if umask is None:
        os.umask(previous)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)
    if options.owner is not None or options.group is not None:
        os.chown(path, _uid(options.owner), _gid(options.group))


def _uid(owner: str | None) -> int:
    if owner is None:
        return -1
    return int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid


def _gid(group: str | None) -> int:
    if group is None:
        return -1
    return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def _clear_stale(options: SocketOptions, path: str) -> None:
    """Remove the file of a socket on which nobody listens; refuse what is alive, or is no socket at all."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise BindError(f"socket {options.name}: {path} exists and is no socket; remove it or choose another path")
    except FileNotFoundError:
        return
    except OSError as error:
        raise BindError(f"socket {options.name}: {path}: {error.strerror}") from None
    if not options.replace:
        with socket.socket(AddressFamily.AF_UNIX, options.type) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise BindError(
                    f"socket {options.name}: another program listens on {path}; "
                    "stop it, choose another path, or say `replace`"
                )
    with _or_bind_error(options, f"unix:{path}"), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _or_bind_error(options: SocketOptions, where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"unknown name {error}"
        hint = ""
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            hint = _holder(options.port) if options.path is None else ""
        elif isinstance(error, PermissionError) and options.path is None and options.port < 1024:
            hint = "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        raise BindError(f"socket {options.name}: cannot bind {where}: {reason}{hint}") from None


def _holder(port: int) -> str:
    """Name the process that has the port, as far as /proc lets us see it."""
    import psutil  # only on the way out, so that a healthy master never pays for it

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    break
                program = psutil.Process(connection.pid).name()
                return f" by {program} (pid {connection.pid}); stop it or choose another port"
    return "; choose another port"
