"""TLS on a connection: the ssl module behind the two calls that the driver makes, `recv` and `send`.

Rules: the handshake happens inside the first `recv`, under the time limit of a request's head, so nobody waits for it.
ALPN offers http/1.1 alone; HTTP/2 would be chosen here. A worker that is told to reload reads the certificates anew, as
it executes itself anew.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from forkserve.config.serving import TlsOptions
from forkserve.errors import UsageError
from forkserve.serving.engine.native import Socket

__all__ = ["TlsSocket", "tls_context"]

AT_ONCE = 65_536
"""Bytes handed to TLS in one piece."""


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context that the options ask for; raises UsageError."""
    assert options.certfile is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.certfile, options.keyfile)
        if options.ca_certs is not None:
            context.load_verify_locations(options.ca_certs)
            context.verify_mode = ssl.CERT_REQUIRED
        if options.ciphers is not None:
            context.set_ciphers(options.ciphers)
    except (OSError, ValueError) as error:
        raise UsageError(f"--certfile {options.certfile}: {getattr(error, 'strerror', None) or error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Plain(Socket):
    """A socket to which TLS can hold a weak reference."""

    __slots__ = ("__weakref__",)


class TlsSocket:
    """An accepted socket under TLS; what has to wait is a BlockingIOError, as with a plain one.

    It is the C object beneath `ssl.SSLSocket`, which cannot be made any more once gevent has put its own in place.
    """

    __slots__ = ("_inner", "_sock", "close", "fileno", "getsockname")

    def __init__(self, sock: Socket, context: ssl.SSLContext) -> None:
        self._sock = plain = _Plain(sock.family, sock.type, sock.proto, fileno=sock.detach())
        plain.setblocking(False)
        self._inner: Any = context._wrap_socket(plain, server_side=True)  # type: ignore[attr-defined]
        self.fileno = plain.fileno
        self.close = plain.close
        self.getsockname = plain.getsockname

    def recv(self, size: int) -> bytes:
        """Return clear text, b"" at the end; raises OSError."""
        try:
            data: bytes = self._inner.read(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLEOFError:
            return b""
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send clear text; raises OSError.

        What was begun has to be offered again in the same length (SSL_write(3)), which the connection's queue does.
        """
        try:
            return int(self._inner.write(data[:AT_ONCE]))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """Say good-bye, so that the end is told from a cut, and shut down; raises OSError."""
        with contextlib.suppress(ssl.SSLError, OSError):
            self._inner.shutdown()
        self._sock.shutdown(how)
