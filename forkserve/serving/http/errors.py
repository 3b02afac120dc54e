"""What a client gets if the application does not answer: a short plain text that reveals nothing of the inside."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from forkserve.serving.http.response import Responder

__all__ = ["error_response", "page"]


def page(status: int) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return status line, headers and body of an error response, as a WSGI application would."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    body = f"{status} {phrase}\n".encode("ascii")
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    return f"{status} {phrase}", headers, body


def error_response(
    responder: Responder,
    status: int,
    *,
    method: str = "GET",
    modern: bool = True,
    keep: bool = False,
    more: Iterable[tuple[str, str]] = (),
) -> tuple[bytes, bool]:
    """Return a whole error response, with `more` headers, and whether the connection stays open."""
    line, headers, body = page(status)
    return responder.whole(responder.prepare(line, [*headers, *more]), body, method=method, modern=modern, keep=keep)
