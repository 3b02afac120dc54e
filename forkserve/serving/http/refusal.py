"""The one exception by which this package refuses a request."""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):
    """A request that is not served: answer with `status`, then close the connection.

    `reason` is a short English text for the log, without any byte of the client. After a refusal nothing more may be
    read from the connection as HTTP (RFC 9112 section 9.6: framing can no longer be trusted). `fields` are further
    fields of the answer, as (name, value) pairs.
    """

    def __init__(self, status: int, reason: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"
