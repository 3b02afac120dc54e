"""Exchanges whose request has an id, its own or a new one, which is sent in every response, errors included.

Other exchanges pay nothing for it. The interface decides where the application finds the id: a variable of the environ,
or an extension of the scope; and the header field in both.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from forkserve.serving.exchange import BaseExchange
from forkserve.serving.http.errors import error_response
from forkserve.serving.http.response import Responder
from forkserve.serving.http.tracecontext import request_id

__all__ = ["IdentifiedExchange", "identity_for"]


class IdentifiedExchange(BaseExchange):
    """An exchange with an id."""

    __slots__ = ()
    header: ClassVar[str]
    """The name of its field, set by the backend."""

    def identity_fields(self) -> list[tuple[str, str]]:
        """Return the field with the id, or nothing if the application has removed it."""
        raise NotImplementedError

    def error(self, responder: Responder, code: int, **framing: Any) -> tuple[bytes, bool]:
        """Return an error response with the id."""
        return error_response(responder, code, more=self.identity_fields(), **framing)


def identity_for(given: str | None, traceparent: str | None) -> str:
    """Return the id of a request with these values: its own, or that of the trace, or a new one."""
    return request_id(given, traceparent, os.urandom(16))
