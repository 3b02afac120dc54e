"""Reads the files of TLS, and explains in words what is wrong with them, which OpenSSL does not."""

from __future__ import annotations

import ssl
from pathlib import Path

from forkserve.config.serving import TlsOptions
from forkserve.config.userfiles import read_file
from forkserve.errors import UsageError

__all__ = ["load_certificates"]

_CERTIFICATE = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN X509 CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE")
_KEY = (b"PRIVATE KEY-----",)


def load_certificates(context: ssl.SSLContext, options: TlsOptions, folder: Path) -> None:
    """Load the chain, its key and the authorities; paths are relative to `folder`. Raises UsageError."""
    assert options.certfile is not None
    chain = _holding(_CERTIFICATE, "certificate", "--certfile", folder / options.certfile)
    flag, key = ("--keyfile", folder / options.keyfile) if options.keyfile else ("--certfile", chain)
    hint = "" if options.keyfile else "; name the file of the key by --keyfile"
    _holding(_KEY, "private key", flag, key, hint)
    try:
        context.load_cert_chain(chain, key, password=_no_password)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        reason = f"it does not belong to the key in {key}" if mismatch else f"it or its key is damaged ({error.reason})"
        raise UsageError(f"--certfile {chain}: {reason}") from None
    except ValueError as error:
        raise UsageError(f"{flag} {key}: {error}") from None
    if options.ca_certs is not None:
        authorities = _holding(_CERTIFICATE, "certificate", "--ca-certs", folder / options.ca_certs)
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError as error:
            raise UsageError(f"--ca-certs {authorities}: it is damaged ({error.reason})") from None
        context.verify_mode = ssl.CERT_REQUIRED


def _no_password() -> str:
    # OpenSSL would ask for it at the terminal.
    raise ValueError("the key is encrypted; it must be readable without a password")


def _holding(marks: tuple[bytes, ...], what: str, flag: str, path: Path, hint: str = "") -> Path:
    """Return the path of a file that contains one of these marks; raises UsageError."""
    try:
        data = read_file(path)
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from None
    if not any(mark in data for mark in marks):
        raise UsageError(f"{flag} {path}: it holds no {what} in PEM form{hint}")
    return path
