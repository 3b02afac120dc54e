"""The application that a new meinheld build must serve correctly before it is installed; see `contract.py`.

It runs under the interpreter of a temporary environment, so it imports only the standard library.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["BIG", "app", "pieces"]

BIG = 13_000_007  # bytes; no multiple of any piece, so that the last one is short


def pieces(total: int, first: int, each: int) -> Iterator[bytes]:
    """Yield `total` bytes of a known pattern, each piece a new object: the first of `first` bytes, others of `each`."""
    pattern = bytes(range(251))
    position = 0
    while position < total:
        size = min(first if position == 0 else each, total - position)
        start = position % 251
        yield (pattern * (size // 251 + 2))[start : start + size]
        position += size


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer as the path says."""
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    headers = [("Content-Type", "application/octet-stream")]
    if path == "/chunked":
        start_response("200 OK", headers)
        return pieces(BIG, 5_000_000, 65536)
    if path == "/sized":
        start_response("200 OK", [*headers, ("Content-Length", str(BIG))])
        return pieces(BIG, 1000, 1_000_000)
    if path == "/broken":
        return broken(start_response)
    text = " ".join(
        [environ["REQUEST_METHOD"], environ["REMOTE_ADDR"], str(len(body)), hashlib.sha256(body).hexdigest()]
    )
    start_response("200 OK", [*headers, ("Content-Length", str(len(text)))])
    return [text.encode()]


def broken(start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Begin a response and fail in its middle."""
    start_response("200 OK", [("Content-Length", "1000")])
    yield b"x"
    raise RuntimeError("on purpose")
