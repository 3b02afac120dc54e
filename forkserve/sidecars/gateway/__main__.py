"""The program of the gateway: `python -m forkserve.sidecars.gateway --control PATH --bind HOST:PORT --token FILE`.

forkserve starts it when `control_bind` is set, replaces it when it has died, and ends it by SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import ssl
import sys
from pathlib import Path

from forkserve.config.address import parse_address
from forkserve.errors import BindError, ConfigError
from forkserve.sidecars.gateway.admission import Admission
from forkserve.sidecars.gateway.proxy import REQUEST_TIMEOUT, ControlProxy
from forkserve.sidecars.program import parser_of, run

__all__ = ["main"]

log = logging.getLogger("forkserve.gateway")

SHORTEST = 16
"""Characters of a token."""


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    return run(_serve, _parser().parse_args(), title="forkserve: control gateway", log=log)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("forkserve-gateway")
    parser.add_argument("--bind", required=True)
    parser.add_argument("--token", required=True, type=Path)
    parser.add_argument("--certfile")
    parser.add_argument("--keyfile")
    parser.add_argument("--host", action="append", default=[])
    return parser


async def _serve(arguments: argparse.Namespace, ending: asyncio.Event) -> None:
    token, tls = _token(arguments.token), _tls(arguments.certfile, arguments.keyfile)
    address = parse_address(arguments.bind)
    proxy = ControlProxy(arguments.control, Admission(token, frozenset(), "http"))
    try:
        server = await asyncio.start_server(
            proxy.serve, address.host, address.port, ssl=tls, ssl_handshake_timeout=REQUEST_TIMEOUT if tls else None
        )
    except OSError as error:
        raise BindError(f"control_bind {arguments.bind}: {error.strerror or error}") from None
    host = f"[{address.host}]" if address.ipv6 else address.host
    place = f"{host}:{server.sockets[0].getsockname()[1]}"
    proxy.admission = Admission.of(token, place, arguments.host, tls=tls is not None)
    log.info("listening at %s://%s", proxy.admission.scheme, place)
    try:
        await ending.wait()
    finally:
        server.close()


def _token(path: Path) -> bytes:
    """Read the token; raises ConfigError for one that others may read or that can be guessed."""
    try:
        mode, token = os.stat(path).st_mode, path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"control_token {path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"control_token {path}: others may read it; chmod 600 it")
    if len(token) < SHORTEST:
        raise ConfigError(f"control_token {path}: a token has at least {SHORTEST} characters")
    return token


def _tls(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    if certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certfile, keyfile)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"control_certfile {certfile}: {error}") from None
    return context


if __name__ == "__main__":
    sys.exit(main())
