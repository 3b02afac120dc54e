"""Header fields by h11: the reference parser, and the one for systems without compiled extensions.

h11 by itself accepts bare LF, folded lines and several framing fields, so the block is checked by the grammar of
`strict` first; then h11 reads it. A disagreement refuses the request. It refuses what llhttp refuses, with the same
status, and takes about ten times as long.
"""

from __future__ import annotations

from typing import Any, ClassVar

import h11

from forkserve.serving.http.fields import Collector
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.strict import check_codings, split_fields

__all__ = ["H11Fields"]

_LINE = b"GET / HTTP/1.0\r\n"
"""With version 1.0 h11 requires no Host; whether one is needed is our rule."""


class H11Fields:
    """Reads a block of fields into a collector."""

    __slots__ = ("_collector",)
    replaceable: ClassVar[bool] = False

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def read(self, block: bytes) -> Any:
        """Pass every field of the block, which ends with its empty line, to the collector; raises Refusal."""
        ours: list[tuple[bytes, bytes]] = []
        on_header = self._collector.on_header
        for name, value in split_fields(block):
            on_header(name, value)
            ours.append(_as_h11_has_it(name.lower(), value))
        check_codings(block)
        # h11 knows no coding but chunked.
        if not self._collector.coded and ours != _read_by_h11(block):
            raise Refusal(400, "an invalid header")
        return self._collector.headers.copy()


def _as_h11_has_it(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name, value.lower()) if name == b"transfer-encoding" else (name, value)


def _read_by_h11(block: bytes) -> list[tuple[bytes, bytes]]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(block) + 64)
    connection.receive_data(_LINE + block)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refusal(400, "an invalid header") from error
    if not isinstance(event, h11.Request):
        raise Refusal(400, "an invalid header")
    return list(event.headers)
