"""Which watchers a pattern names: exactly, by shell wildcards, or by a regular expression, case-insensitive.

Rules: pure. It runs on the client's side, so a pattern costs the master nothing.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from forkserve.errors import UsageError

__all__ = ["MATCHES", "matching"]

MATCHES = ("glob", "regex", "simple")
LONGEST = 200

_COSTLY = re.compile(r"\([^()]*[*+{|][^()]*\)\s*[*+{]")
"""A nested repetition: with some texts such an expression takes longer than anyone waits."""


def matching(names: Iterable[str], pattern: str, how: str = "glob") -> list[str]:
    """Return the names that a pattern matches, in their order; raises UsageError for an invalid pattern.

    A full name always means itself. A regular expression is matched from the beginning of a name, as in Circus.
    """
    names = list(names)
    exact = [name for name in names if name.lower() == pattern.lower()]
    if exact or how == "simple":
        return exact
    if how not in MATCHES:
        raise UsageError(f"unknown match method {how}")
    expression = _expression(pattern.lower() if how == "glob" else pattern, how)
    return [name for name in names if expression.match(name.lower())]


def _expression(pattern: str, how: str) -> re.Pattern[str]:
    if len(pattern) > LONGEST or (how == "regex" and _COSTLY.search(pattern)):
        raise UsageError(f"pattern {pattern[:LONGEST]!r} is too costly to match")
    try:
        return re.compile(fnmatch.translate(pattern) if how == "glob" else pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"pattern {pattern!r}: {error}") from None
