"""A number of processes, or a percentage of the target: `2`, `25%`.

Rules: pure.
"""

from __future__ import annotations

import math
import re

__all__ = ["amount_of", "is_nothing", "portion"]


def portion(value: str) -> str:
    """Parse a number or a percentage; the result is its text without blanks. Raises ValueError."""
    word = value.replace(" ", "")
    if not re.fullmatch(r"\d{1,6}|\d{1,3}(\.\d{1,3})?%", word):
        raise ValueError(f"expected a number of processes such as 2, or a percentage such as 25%, got {value!r}")
    return word


def amount_of(text: str, whole: int, *, up: bool) -> int:
    """Return how many processes a portion of this many is; a percentage is rounded up or down."""
    if not text.endswith("%"):
        return int(text)
    exact = whole * float(text[:-1]) / 100
    return math.ceil(exact) if up else math.floor(exact)


def is_nothing(text: str) -> bool:
    """Tell whether a portion is always 0."""
    return not float(text.removesuffix("%"))
