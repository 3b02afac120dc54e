"""The corpus of raw HTTP requests; it is shipped, so that other backends can be held to it."""

from forkserve.testing.corpus import Case, cases, invalid_cases, valid_cases

__all__ = ["Case", "cases", "invalid_cases", "valid_cases"]
