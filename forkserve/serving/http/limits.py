"""How much a client may send before it is refused, and what becomes of doubtful header names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Limits", "Underscores"]


class Underscores(Enum):
    """What becomes of a field whose name has an underscore.

    In a WSGI environ `X_Forwarded_For` cannot be told from `X-Forwarded-For`, so whoever may send the first forges the
    second (CVE-2015-0219). Such a field is dropped unless told otherwise.
    """

    DROP = "drop"
    REFUSE = "refuse"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes. Each applies while bytes arrive, before a line or a message ends."""

    request_line: int = 8190
    """Beyond it 414. RFC 9112 section 3 asks for at least 8000; 8190 is Gunicorn's and Apache's."""
    field: int = 8190
    """One field line with its line end; beyond it 431."""
    fields: int = 100
    """Field lines in a head; beyond it 431."""
    head: int = 65_536
    """Request line and all fields; beyond it 431."""
    body: int = 1_073_741_824
    """A message body after decoding; beyond it 413."""
    trailers: int = 8190
    """All trailer fields together; beyond it 431."""
    chunk_line: int = 256
    """A chunk size with its extensions; beyond it 400."""
    chunk_overhead: int = 65_536
    """All chunk extensions of a message together; beyond it 400 (Go's rule against paying much for little data)."""
    underscores: Underscores = Underscores.DROP
