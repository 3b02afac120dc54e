"""The defaults of options as text, for the help of both commands and for the reference. Pure."""

from __future__ import annotations

from enum import Enum
from socket import AddressFamily, SocketKind
from typing import Any

from forkserve.config.options import Option
from forkserve.config.values import signal_name, size
from forkserve.wording import signal_name as signal_text

__all__ = ["default_text"]


def default_text(option: Option) -> str:
    """Return an option's default as written in a file; `none` or `required` if there is none."""
    value: Any = option.default
    if option.required:
        return "required"
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return _scalar_text(option, value)


def _scalar_text(option: Option, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if option.parse is signal_name:
        return signal_text(value)
    if option.parse is size:
        return _size_text(value)
    if isinstance(value, AddressFamily | SocketKind):
        return value.name
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _size_text(value: int) -> str:
    """Return a number of bytes with the largest unit that divides it: 1073741824 is `1G`."""
    for unit, factor in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)
