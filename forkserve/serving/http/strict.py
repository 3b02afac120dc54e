"""The grammar that both parsers are held to, line by line (RFC 9112 sections 2.2, 3 and 5, RFC 9110 section 5).

A library parser accepts some violations: llhttp several spaces in a request line or leading bare CR and LF, h11 bare LF
and folded lines. So the form of a head is defined here once, in regular expressions without backtracking, and used in
three ways: as the check before h11, for heads that arrive in pieces (refused at the first bad line, not at the time
limit), and to determine the status when a library only says "error".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from forkserve.config.serving import HttpLimits
from forkserve.serving.http.line import parse_line
from forkserve.serving.http.refusal import Refusal

__all__ = ["PartialHead", "TooManyFields", "check_codings", "check_cut", "exceeds", "field_of", "split_fields"]

_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t -~\x80-\xff]*+)").fullmatch
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)").search
_NOT_IN_LINE = re.compile(rb"[^ -~\r]|\r.").search
_TAB_BEHIND_CODING = re.compile(rb"^transfer-encoding:(?:.*,)?[ \t]*chunked[ ]*\t", re.IGNORECASE | re.MULTILINE).search
_METHOD_AND_MORE = 48
_CR = 13
_CUT_LINE = re.compile(rb"\r?\Z|[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: [!-~]*( [HTP/0-9.]{0,8})?)?\r?\Z").match


def field_of(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of one field line without its line end; raises Refusal."""
    match = _FIELD(line)
    if match is None:
        raise Refusal(400, _fault_of(line))
    return match[1], match[2].rstrip(b" \t")


def _fault_of(line: bytes) -> str:
    if line[:1] in (b" ", b"\t"):
        return "a folded header line"
    if _CONTROL(line):
        return "a control character in a header line"
    if b":" not in line:
        return "a header line without a colon"
    return "an invalid header name"


def check_cut(piece: bytes, *, first: bool) -> None:
    """Check a piece of an incomplete field line; `first` if the line begins with it. Raises Refusal."""
    if _CONTROL(piece) or (first and piece[:1] in (b" ", b"\t")):
        raise Refusal(400, _fault_of(piece))


def check_codings(block: bytes) -> None:
    """Refuse a tab behind the last transfer coding, chunked.

    RFC 9110 section 5.6.3 allows it. llhttp refuses it, but not in a request that asks for an upgrade, and a verdict
    must not depend on the parser. Raises Refusal.
    """
    if b"\t" in block and _TAB_BEHIND_CODING(block):
        raise Refusal(400, "an invalid Transfer-Encoding")


def split_fields(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields of a block that ends with an empty line; raises Refusal at the first malformed one."""
    for line in block[:-4].split(b"\r\n") if len(block) > 2 else ():
        yield field_of(line)


def exceeds(line: bytes, block: bytes, limits: HttpLimits) -> bool:
    """Tell whether a whole head exceeds a limit of size."""
    longest = limits.limit_request_field_size
    return (
        len(line) > limits.limit_request_line
        or len(line) + len(block) + 2 > limits.limit_request_head
        or (len(block) > longest and max(map(len, block.split(b"\r\n"))) + 2 > longest)
    )


class TooManyFields(Refusal):
    """More field lines than the limit; errors in those up to the limit take precedence."""

    def __init__(self) -> None:
        super().__init__(431, "too many header fields")


class PartialHead:
    """A head that arrives in pieces: every line is checked when it ends, every limit before that.

    `add` returns the bytes so far once they contain an empty line, else None; it raises Refusal, the same however they
    are cut. The work is linear in the bytes received, even if they arrive one by one.
    """

    __slots__ = ("_buffer", "_fields", "_in_version", "_start", "_started")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._started = False
        self._in_version = False
        self._fields = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def so_far(self) -> tuple[bytes, bytes]:
        """Return the request line and the valid field lines so far, as a block."""
        line, _, block = bytes(self._buffer[: self._start]).removeprefix(b"\r\n").partition(b"\r\n")
        return line, block + b"\r\n"

    def add(self, data: bytes, limits: HttpLimits) -> bytes | None:
        buffer = self._buffer
        searched = max(self._start, len(buffer) - 1)
        buffer += data
        while (end := buffer.find(b"\r\n", searched)) >= 0:
            if self._line(bytes(buffer[self._start : end]), limits):
                return bytes(buffer)
            self._start = searched = end + 2
        # One byte more than is new, for a CR that ended the piece before.
        self._cut(bytes(buffer[max(self._start, len(buffer) - len(data) - 1) :]), limits)
        return None

    def _line(self, line: bytes, limits: HttpLimits) -> bool:
        if not self._started:
            if line or self._start > 0:
                if len(line) > limits.limit_request_line:
                    raise _too_long(line[: limits.limit_request_line + 1])
                parse_line(line)
                self._started = True
            return False
        if not line:
            return True
        self._count(limits)
        self._fields += 1
        self._hold(len(line) + 2, limits)
        field_of(line)
        return False

    def _cut(self, new: bytes, limits: HttpLimits) -> None:
        """Check an incomplete line: its limit, and its new bytes."""
        size = len(self._buffer) - self._start
        if not self._started:
            if size > limits.limit_request_line + 1:
                raise _too_long(bytes(self._buffer[self._start : self._start + limits.limit_request_line + 1]))
            # The whole line is looked at only while it is short and where it turns from one part to the next.
            turns = size - len(new) <= _METHOD_AND_MORE or self._in_version or b" " in new or b"\r" in new
            if _NOT_IN_LINE(new):
                raise Refusal(400, "an invalid request line")
            if turns:
                match = _CUT_LINE(self._buffer, self._start)
                if match is None:
                    raise Refusal(400, "an invalid request line")
                self._in_version = match[1] is not None
            return
        if size > 1 or (size and self._buffer[-1] != _CR):
            self._count(limits)
        self._hold(size + 1, limits)
        check_cut(new, first=size == len(new))

    def _count(self, limits: HttpLimits) -> None:
        """Count the field line that has begun."""
        if self._fields >= limits.limit_request_fields:
            # A CR may still be the empty line. Before it is known to be a field, the head may have become too large.
            self._hold(2 if self._buffer[self._start] == _CR else 1, limits)
            raise TooManyFields

    def _hold(self, size: int, limits: HttpLimits) -> None:
        """Check the limits of the field line that has begun, and takes at least `size` bytes."""
        start, longest, head = self._start, limits.limit_request_field_size, limits.limit_request_head
        if size > longest or start + size > head:
            # What is wrong before the limit goes first, as it does when the bytes come one by one.
            check_cut(bytes(self._buffer[start : min(start + longest, head) - 1]), first=True)
            raise Refusal(431, "a header field, or the header, is too large")


def _too_long(start: bytes) -> Refusal:
    """Return the refusal of a request line over its limit: 414 is for a target, which comes after a method."""
    if _NOT_IN_LINE(start) or not _CUT_LINE(start):
        return Refusal(400, "an invalid request line")
    return Refusal(414, "the request line is too long")
