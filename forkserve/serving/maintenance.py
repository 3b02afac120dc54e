"""What the responder of `forkservectl maintenance` and `pause` serves: one page with 503, for every request.

It is a WSGI application that forkserve-worker serves on the sockets of the watcher that it replaces, so the engine
handles limits, TLS and slow clients. FORKSERVE_PAGE names the file of the page, FORKSERVE_RETRY_AFTER the seconds after
which a client may retry (RFC 9110 sections 10.2.3 and 15.6.4).
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from forkserve.config.handover import PAGE, RETRY_AFTER

__all__ = ["application", "page_of"]

LARGEST = 4 << 20
"""Most bytes of a page."""
PLAIN = b"The service is down for maintenance. Please try again later.\n"


def page_of(environ: Mapping[str, str]) -> tuple[bytes, list[tuple[str, str]]]:
    """Return the page and its header fields; raises OSError, or ValueError for a page that is too large."""
    path, body, kind = environ.get(PAGE, ""), PLAIN, "text/plain; charset=utf-8"
    if path:
        with open(path, "rb") as file:
            body = file.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise ValueError(f"{path} has more than {LARGEST} bytes")
        guessed = mimetypes.guess_type(path)[0] or "text/html"
        kind = f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed
    fields = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return body, [*fields, ("Retry-After", environ.get(RETRY_AFTER, "") or "30")]


BODY, FIELDS = page_of(os.environ)


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer 503."""
    start_response("503 Service Unavailable", FIELDS)
    return [BODY]
