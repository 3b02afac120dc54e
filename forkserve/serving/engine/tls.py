"""TLS on a connection: the ssl module behind the two calls that the driver makes, `recv` and `send`.

Rules: the handshake happens inside the first `recv`, under the time limit of a request's head, so nothing waits for it.
ALPN offers only http/1.1; HTTP/2 would be chosen here. A worker that reloads reads the certificates again,
since it executes itself again, so no context changes under a connection.

Threads: an SSL object must not be used by two threads at once (openssl-threads(7)), the ssl module releases the
interpreter's lock inside OpenSSL, and on the backend `threads` the loop reads while a thread writes. So each connection
has a lock, which is held for one call at a time. The socket never blocks, so a call takes as long as the cryptography
of its bytes, at most `AT_ONCE`, however slow the client is. The lock is reentrant, since a finaliser or a signal
handler may run between the lock and OpenSSL; within OpenSSL no Python runs.
"""

from __future__ import annotations

import contextlib
import errno
import ssl
from pathlib import Path
from typing import Any, NoReturn

from forkserve.config.serving import TlsOptions
from forkserve.errors import UsageError
from forkserve.serving.engine.certificates import load_certificates
from forkserve.serving.engine.native import RLock, Socket

__all__ = ["TlsSocket", "tls_context"]

AT_ONCE = 65_536
"""Bytes passed to TLS in one piece."""


def tls_context(options: TlsOptions, folder: Path = Path()) -> ssl.SSLContext:
    """Return the context for the options, with paths relative to `folder`; raises UsageError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificates(context, options, folder)
    if options.ciphers is not None:
        try:
            context.set_ciphers(options.ciphers)
        except ssl.SSLError:
            raise UsageError(f"--ciphers {options.ciphers}: OpenSSL knows none of them") from None
    context.set_alpn_protocols(["http/1.1"])
    # In TLS 1.2 a client could ask for one handshake after another; OpenSSL 3 refuses by itself, 1.1.1 does not.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


class _Plain(Socket):
    """A socket to which TLS can hold a weak reference."""

    __slots__ = ("__weakref__",)


class _Closed:
    """In place of the SSL object of a closed connection, which would use a descriptor number that is another's now."""

    def read(self, _size: int) -> NoReturn:
        """Refuse. Raises OSError."""
        raise OSError(errno.EBADF, "the connection is closed")

    write = read

    def shutdown(self) -> NoReturn:
        """Refuse. Raises OSError."""
        self.read(0)


class _Ended:
    """In place of the SSL object after close_notify: what still comes is dropped, so nobody decrypts it."""

    def __init__(self, sock: Socket) -> None:
        self.read = sock.recv

    def write(self, _data: bytes | memoryview) -> NoReturn:
        """Refuse. Raises OSError."""
        raise OSError(errno.EPIPE, "the connection is shut down")

    def shutdown(self) -> None:
        """Do nothing: close_notify has been sent."""


_CLOSED = _Closed()


class TlsSocket:
    """An accepted socket under TLS; what would block is a BlockingIOError, as with a plain one.

    It is the C object beneath `ssl.SSLSocket`, which cannot be created any more once gevent has installed its own. Any
    thread may call any method.
    """

    __slots__ = ("_inner", "_lock", "_sock", "fileno", "getsockname", "setsockopt", "wants_write")

    def __init__(self, sock: Socket, context: ssl.SSLContext) -> None:
        """Take the descriptor from `sock`; raises OSError, and has closed it then."""
        self._sock = plain = _Plain(sock.family, sock.type, sock.proto, fileno=sock.detach())
        plain.setblocking(False)
        try:
            self._inner: Any = context._wrap_socket(plain, server_side=True)  # type: ignore[attr-defined]
        except OSError:
            plain.close()
            raise
        self._lock = RLock()
        self.wants_write = False
        """Whether the last `recv` must be repeated when the socket is writable, not when it is readable."""
        self.fileno = plain.fileno
        self.getsockname = plain.getsockname
        self.setsockopt = plain.setsockopt

    def recv(self, size: int) -> bytes:
        """Return clear text, b"" at the end; raises OSError."""
        self.wants_write = False
        try:
            with self._lock:
                data: bytes = self._inner.read(size)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wants_write = True
            raise BlockingIOError from None
        except ssl.SSLEOFError:
            return b""
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send clear text; raises OSError.

        What was begun must be offered again in the same length (SSL_write(3)), which the connection's queue does.
        """
        try:
            with self._lock:
                return int(self._inner.write(data[:AT_ONCE]))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """Send close_notify, which tells the end from a truncation, and shut down; raises OSError."""
        with self._lock:
            with contextlib.suppress(ssl.SSLError, OSError):
                self._inner.shutdown()
            self._inner = _Ended(self._sock)
            self._sock.shutdown(how)

    def close(self) -> None:
        """Close the descriptor, after a call in which another thread may be; later calls raise OSError."""
        with self._lock:
            self._inner = _CLOSED
            self._sock.close()

    def close_in_child(self) -> None:
        """Close the copy of a forked process, in which a thread that held the lock does not exist."""
        self._inner = _CLOSED
        self._sock.close()
