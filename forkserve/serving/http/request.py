"""Requests out of a connection's bytes: the head of each in turn.

The hot path is two look-ups. A client that keeps its connection sends the same header block again and again, byte for
byte, and requests few different lines; both were parsed before, and the result depends on nothing else. So a profile
caches a bounded number of request lines and header blocks. Equal bytes give an equal, shared, read-only result;
everything else takes the full path through the parser and the rules. A block is cached when it occurs a second time in
a row, so that blocks used once (cookies, ids) evict nothing.

Measured in one process, in rounds with bare httptools collecting the same headers into a dict (1.0 in each row):

    head                        known   new fields   new line and fields   h11
    1 field, 40 bytes             0.4          2.9                   5.5    24
    3 fields, 80 bytes            0.25         2.2                   4.2    17
    20 fields, 1066 bytes         0.1          1.6                   1.9     9

The collector puts fields into the shape of its interface inside the parser's callback. A list first and a second pass
took as long (1.0 to 1.1), so the single pass is for the sake of less code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Protocol

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.fields import Collector, Fields
from forkserve.serving.http.line import RequestLine, parse_line
from forkserve.serving.http.refusal import Refusal
from forkserve.serving.http.strict import PartialHead, TooManyFields, exceeds

__all__ = ["FieldReader", "Profile", "RequestReader"]

_LINES = 512
_BLOCKS = 256
_REMEMBERED_LINE = 256
_REMEMBERED_BLOCK = 2048


class FieldReader(Protocol):
    """What a parser must provide. `replaceable`: our own compiled reader may take usual heads in its place."""

    replaceable: ClassVar[bool]

    def read(self, block: bytes) -> Any:
        """Return the headers of a block of fields, after passing the decisive ones to the collector; raises Refusal."""


class Profile:
    """What all connections of one loop share: limits, the parser, and its caches. Belongs to one thread."""

    __slots__ = (
        "blocks",
        "collector",
        "block_below_limits",
        "last",
        "limits",
        "lines",
        "read",
        "replaceable",
        "size_below_limits",
    )

    def __init__(
        self,
        limits: HttpLimits,
        collector: type[Collector],
        parser: Callable[[Collector], FieldReader],
    ) -> None:
        self.limits = limits
        self.collector = collector(limits)
        reader = parser(self.collector)
        self.read = reader.read
        self.replaceable = reader.replaceable
        self.lines: dict[bytes, RequestLine] = {}
        self.blocks: dict[bytes, Fields] = {}
        self.last = b""
        # A head below these sizes cannot break a limit: the shortest field line has four bytes, `a:` CR LF.
        self.block_below_limits = limits.limit_request_fields * 4
        self.size_below_limits = min(
            limits.limit_request_line, limits.limit_request_field_size, limits.limit_request_head
        )

    def recall(self, data: bytes) -> tuple[RequestLine, Fields] | None:
        """Return line and fields of a whole head, if nothing follows and both are cached."""
        if len(data) > _REMEMBERED_LINE + 2 + _REMEMBERED_BLOCK:
            return None
        raw, _, block = data.partition(b"\r\n")
        line = self.lines.get(raw)
        if line is None:
            return None
        line.again = True
        fields = self.known_fields(line, block)
        return None if fields is None else (line, fields)

    def known_fields(self, line: RequestLine, block: bytes) -> Fields | None:
        """Return the meaning of a block of fields after this line, if cached."""
        # A miss costs the hash of the block; it is not computed until a block has come twice.
        if self.blocks and len(block) <= _REMEMBERED_BLOCK and line.modern and line.authority is None:
            return self.blocks.get(block)
        return None

    def line(self, data: bytes) -> RequestLine:
        """Parse a request line, and cache it; raises Refusal."""
        line = parse_line(data)
        if len(data) <= _REMEMBERED_LINE:
            if len(self.lines) >= _LINES:
                self.lines.clear()
            self.lines[data] = line
        return line

    def fields(self, line: RequestLine, block: bytes) -> Fields:
        """Parse the fields after a request line, and possibly cache them; raises Refusal."""
        collector = self.collector
        collector.begin()
        headers = self.read(block)
        fields = collector.finish(line, headers)
        if len(block) > self.block_below_limits and collector.count() > self.limits.limit_request_fields:
            raise TooManyFields
        if len(block) <= _REMEMBERED_BLOCK and line.modern and line.authority is None:
            if block == self.last:
                if len(self.blocks) >= _BLOCKS:
                    self.blocks.clear()
                self.blocks[block] = fields
            self.last = block
        return fields


class RequestReader:
    """The requests of one connection. `line` and `fields` are those of the last head that `feed` completed."""

    __slots__ = ("_partial", "fields", "line", "profile", "rest")

    line: RequestLine
    fields: Fields

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.rest = b""
        self._partial: PartialHead | None = None

    @property
    def partial(self) -> bool:
        """True if some bytes of a head have arrived, but not all: the time limit for a head runs."""
        return self._partial is not None

    @property
    def in_memory(self) -> int:
        """Bytes of a head that are kept until it is whole."""
        return 0 if self._partial is None else len(self._partial)

    def drop(self) -> None:
        """Forget the bytes of a head that will not be completed; allocates nothing."""
        self._partial = None
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Take bytes at the start of a head or inside; true when it is complete. Raises Refusal.

        Then `line`, `fields` and `rest` (the bytes after the head) are set, until the next call.
        """
        if self._partial is None:
            known = self.profile.recall(data)
            if known is not None:
                self.line, self.fields = known
                self.rest = b""
                return True
            if self._whole(data):
                return True
            self._partial = PartialHead()
        return self._piece(data)

    def take_rest(self) -> bytes:
        """Return the bytes after the head, once."""
        rest, self.rest = self.rest, b""
        return rest

    def _whole(self, data: bytes) -> bool:
        """Read a head from its first byte; False if it is not whole, or empty lines come before it."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 5 or data.startswith(b"\r\n"):
            return False
        profile = self.profile
        self.rest = data[end:]
        raw, _, block = (data[:end] if self.rest else data).partition(b"\r\n")
        if end > profile.size_below_limits and exceeds(raw, block, profile.limits):
            self._refuse(data[:end])
        self.line = line = profile.lines.get(raw) or profile.line(raw)
        try:
            self.fields = profile.known_fields(line, block) or profile.fields(line, block)
            return True
        except Refusal as found:
            refusal = found
        try:
            if block.count(b"\r\n") > profile.limits.limit_request_fields + 1:
                self._refuse(data[:end])
            raise refusal
        finally:
            del refusal  # its traceback holds this frame

    def _refuse(self, head: bytes) -> NoReturn:
        """Refuse a whole head that exceeds a limit in the same way as if it came in pieces."""
        self._add(PartialHead(), head)
        raise Refusal(431, "the header is too large")

    def _add(self, partial: PartialHead, data: bytes) -> bytes | None:
        """Add a piece; raises Refusal, if there are too many fields for the meaning of those up to the limit."""
        try:
            return partial.add(data, self.profile.limits)
        except TooManyFields as refusal:
            beyond = refusal
        # Outside of the handler: llhttp tells a refusal of ours by the context of its exception.
        try:
            line, block = partial.so_far()
            self.profile.fields(self.profile.line(line), block)
            raise beyond
        finally:
            del beyond  # its traceback holds this frame

    def _piece(self, data: bytes) -> bool:
        assert self._partial is not None
        head = self._add(self._partial, data)
        if head is None:
            return False
        self._partial = None
        return self._whole(head.removeprefix(b"\r\n"))
