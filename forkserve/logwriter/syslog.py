"""Sends lines to syslog, as datagrams of RFC 3164 to a local socket or over UDP."""

from __future__ import annotations

import contextlib
import logging.handlers
import socket

__all__ = ["Syslog"]

_LARGEST = 8192
"""Bytes of one datagram; the default of rsyslog, journald takes more."""


class Syslog:
    """One connection. `write` takes the result of `line`, one datagram a line."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    @staticmethod
    def line(facility: str, severity: int, tag: str, text: bytes) -> bytes:
        """Return the datagram for a line: `<PRI>TAG: text`, without a date, which the receiver adds."""
        number = logging.handlers.SysLogHandler.facility_names.get(facility.lower(), 1)
        return f"<{number << 3 | severity}>{tag}: ".encode() + text[:_LARGEST]

    def write(self, data: bytes) -> int:
        """Send the first line of the data, and return its length with its end; raises OSError."""
        if self._socket is None:
            self._socket = self._connect()
        line, end, _ = data.partition(b"\n")
        self._socket.send(line)
        return len(line) + len(end)

    def _connect(self) -> socket.socket:
        host, colon, port = self._address.rpartition(":")
        if "/" in self._address or not colon:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            target: object = self._address
        else:
            family, _, _, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect(target)  # type: ignore[arg-type]
        except OSError:
            sock.close()
            raise
        return sock

    def reopen(self) -> None:
        """Reconnect before the next line."""
        sock, self._socket = self._socket, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    close = reopen
