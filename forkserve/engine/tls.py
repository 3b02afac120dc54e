"""TLS on a connection: the ssl module behind the two calls that the driver makes, `recv` and `send`.

Rules: the handshake happens inside the first `recv`, under the time limit of a request's head, so nobody waits for it.
ALPN offers http/1.1 alone; HTTP/2 would be chosen here. A worker that is told to reload reads the certificates anew, as
it executes itself anew.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from typing import Any

from forkserve.config.serving import TlsOptions
from forkserve.engine.native import Socket
from forkserve.errors import UsageError

__all__ = ["TlsSocket", "tls_context"]

AT_ONCE = 65_536
"""Bytes handed to TLS in one piece."""


def tls_context(options: TlsOptions) -> ssl.SSLContext | None:
    """Return the context that the options ask for, None without a certificate; raises UsageError."""
    if options.certfile is None:
        return None
    monkey = sys.modules.get("gevent.monkey")
    make: Any = ssl.SSLContext if monkey is None else monkey.get_original("ssl", "SSLContext")
    context: ssl.SSLContext = make(ssl.PROTOCOL_TLS_SERVER)
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


class TlsSocket:
    """An accepted socket under TLS; what has to wait is a BlockingIOError, as with a plain one."""

    __slots__ = ("_sock", "close", "fileno")

    def __init__(self, sock: Socket, context: ssl.SSLContext) -> None:
        monkey = sys.modules.get("gevent.monkey")
        make: Any = socket.socket if monkey is None else monkey.get_original("socket", "socket")
        plain = make(sock.family, sock.type, sock.proto, fileno=sock.detach())
        plain.setblocking(False)
        self._sock = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.fileno = self._sock.fileno
        self.close = self._sock.close

    def recv(self, size: int) -> bytes:
        """Return clear text, b"" at the end; raises OSError."""
        try:
            return self._sock.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: bytes | memoryview) -> int:
        """Send clear text; raises OSError.

        What was begun has to be offered again in the same length (SSL_write(3)), which the connection's queue does.
        """
        try:
            return self._sock.send(data[:AT_ONCE])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """Say good-bye, so that the end is told from a cut, and shut down; raises OSError."""
        inner: Any = self._sock._sslobj  # type: ignore[attr-defined]
        with contextlib.suppress(ssl.SSLError, OSError):
            inner.shutdown()
        Socket.shutdown(self._sock, how)
