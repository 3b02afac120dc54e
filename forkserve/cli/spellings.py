"""Names options in messages as they were typed: `--error-logfile`, where a message says `--log-output`.

Rules: a message names an option by its first long flag, whatever part of the program it comes from; here, where the
line is known, that flag is replaced by the typed one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping

from forkserve.config.options import Option
from forkserve.errors import UsageError

__all__ = ["as_typed", "in_typed_words", "spellings"]


def spellings(options: Iterable[Option], typed: Mapping[str, str]) -> dict[str, str]:
    """Return the flags to replace, and their replacements; `typed` has the flags by the names of the options."""
    return {
        first: typed[each.name]
        for each in options
        if each.name in typed and (first := next((flag for flag in each.cli if flag.startswith("--")), ""))
    }


def as_typed(text: str, flags: Mapping[str, str]) -> str:
    """Return a message with the flags as typed."""
    return re.sub(r"(?<![\w-])--[a-z][\w-]*", lambda match: flags.get(match[0], match[0]), text)


@contextlib.contextmanager
def in_typed_words(flags: Mapping[str, str]) -> Iterator[None]:
    """Make every UsageError of the block name the flags as typed."""
    try:
        yield
    except UsageError as error:
        error.args = (as_typed(str(error), flags), *error.args[1:])
        raise
