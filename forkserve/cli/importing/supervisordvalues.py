"""The spellings of values in supervisord.conf: %(NAME)s, KEY="value" lists, sizes, socket addresses.

Rules: pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from forkserve.cli.importing.draft import Scalar
from forkserve.cli.importing.socketvalues import socket_values
from forkserve.errors import ConfigError

__all__ = ["WID", "addresses", "expanded", "size_text", "variables"]

WID = "$(circus.wid)"
"""The value of a name that each process has another number for; its format is kept."""
_NAME = re.compile(r"%(?:%|\((?P<name>\w+)\)(?P<format>0?\d*[sd]))")
_PAIR = re.compile(r"""\s*(?P<name>[^\s=,"']+)\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^,"'\n]*?)\s*(?:,|\n|$)""")


def expanded(text: str, names: Mapping[str, str]) -> str:
    """Replace %(NAME)s; %(ENV_X)s becomes $(circus.env.X), so that secrets stay out of the file."""

    def value(match: re.Match[str]) -> str:
        name, shape = match["name"], match["format"] or ""
        if name is None:
            return "%"
        if name.startswith("ENV_"):
            return f"$(circus.env.{name.removeprefix('ENV_')})"
        found = names.get(name)
        if found is None:
            return match[0]
        if found == WID:
            return f"$(circus.wid:{shape[:-1]})" if shape[:-1] else WID
        return f"%{shape}" % int(found) if shape.endswith("d") and found.isdecimal() else found

    return _NAME.sub(value, text)


def variables(text: str) -> dict[str, str]:
    """Parse KEY="value",KEY2=value2, over several lines as well; raises ValueError."""
    found: dict[str, str] = {}
    place = 0
    text = text.strip()
    while place < len(text):
        match = _PAIR.match(text, place)
        if match is None:
            raise ValueError(f'expected KEY="value",KEY2="value2", got {text[place:]!r}')
        value = match["value"]
        found[match["name"]] = value[1:-1] if value[:1] in ("'", '"') and value[:1] else value
        place = match.end()
        while place < len(text) and text[place] in " \t\n,":
            place += 1
    return found


def size_text(text: str) -> str:
    """Return a size such as 50MB in forkserve's spelling, 50M."""
    return re.sub(r"(?i)(?<=[kmg])b$", "", text.strip()).strip()


def addresses(text: str) -> dict[str, Scalar]:
    """Return the keys of a socket given as tcp://HOST:PORT or unix:///PATH; raises ConfigError."""
    try:
        return socket_values(text)
    except ValueError as error:
        raise ConfigError(f"socket: {error}") from None
