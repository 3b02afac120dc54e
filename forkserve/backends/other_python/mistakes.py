"""A user's mistake, as a foreign worker reports it, and forkserve's exit codes (`forkserve.errors` cannot be
imported there).
"""

from __future__ import annotations

__all__ = ["APPLICATION", "CONFIG", "OK", "TIMED_OUT", "UserError"]

OK, APPLICATION, TIMED_OUT, CONFIG = 0, 3, 75, 78


class UserError(Exception):
    """A mistake of the user: one line for stderr, and the exit code."""

    def __init__(self, text: str, code: int = CONFIG) -> None:
        super().__init__(text)
        self.code = code
