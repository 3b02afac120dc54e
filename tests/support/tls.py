"""What tests of TLS need beside the ssl module: a certificate, and TLS 1.3 key updates."""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import subprocess
from pathlib import Path

__all__ = ["make_certificate", "update_key"]

_UPDATE_REQUESTED = 1
"""SSL_KEY_UPDATE_REQUESTED (SSL_key_update(3)): the peer changes its key as well."""


def make_certificate(folder: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that signs itself; returns the paths of it and of its key."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    kind = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*kind, "-keyout", key, "-out", cert, *names], check=True, capture_output=True)
    return cert, key


def _library() -> ctypes.CDLL:
    # Looked up by the extension module, a symbol is found in the libssl that it uses (dlsym(3)).
    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    for name, more in (("SSL_key_update", [ctypes.c_int]), ("SSL_do_handshake", [])):
        getattr(library, name).argtypes = [ctypes.c_void_p, *more]
    return library


_LIBRARY = _library()


def update_key(sock: ssl.SSLSocket) -> None:
    """Send a TLS 1.3 key update, which the ssl module cannot."""
    # PySSLSocket of Modules/_ssl.c: a head, a reference to the socket, SSL *.
    inner = sock._sslobj  # type: ignore[attr-defined]
    address = id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    pointer = ctypes.c_void_p.from_address(address)
    assert _LIBRARY.SSL_key_update(pointer, _UPDATE_REQUESTED) == 1
    assert _LIBRARY.SSL_do_handshake(pointer) == 1
