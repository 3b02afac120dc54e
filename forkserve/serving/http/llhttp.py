"""Header fields by httptools (llhttp): the default, because it is C.

It gets whole heads and is used for the fields alone; the request line and the meaning of fields are ours. So its state
between messages does not matter, one object serves every connection, and a client that sends its head byte by byte
costs no parser memory. llhttp itself is strict on names, values, folding, CR, LF and NUL (all its leniencies are off).
If it refuses, `strict` determines the status, so that both parsers refuse alike.
"""

from __future__ import annotations

from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from forkserve.serving.http.fields import Collector
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.strict import check_codings, split_fields

__all__ = ["LlhttpFields"]

_LINE = b"GET / HTTP/1.1\r\n"


class LlhttpFields:
    """Reads a block of fields into a collector."""

    __slots__ = ("_clean", "_collector", "_feed", "_parser")
    replaceable: ClassVar[bool] = False

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._parser = HttpRequestParser(collector)
        self._feed = self._parser.feed_data
        self._clean = True

    def read(self, block: bytes) -> Any:
        """Pass every field of the block, which ends with its empty line, to the collector; raises Refusal.

        llhttp gets a request line of ours in front: `line` parses the client's own, and knows more methods.
        """
        collector = self._collector
        if not self._clean:
            self._parser.__init__(collector)  # type: ignore[misc]  # llhttp_init: the only reset httptools has
        self._clean = False
        try:
            self._feed(_LINE + block)
        except HttpParserUpgrade:
            check_codings(block)
            return collector.headers.copy()
        except HttpParserError as error:
            raise self._refusal(error, block) from None
        self._clean = collector.is_plain
        return collector.headers.copy()

    def _refusal(self, error: HttpParserError, block: bytes) -> Refusal:
        if isinstance(error.__context__, Refusal):
            return error.__context__
        self._collector.begin()
        try:
            for name, value in split_fields(block):
                self._collector.on_header(name, value)
        except Refusal as refusal:
            return refusal
        return Refusal(400, "an invalid header")
