"""The properties of a request, read one by one: an invalid one is refused by its name.

Rules: pure. Numbers are accepted as text as well, since circusctl sends some that way.
"""

from __future__ import annotations

from typing import Any

from forkserve.sidecars.circus.protocol import CircusRequest, MessageRefused

__all__ = ["integer_of", "name_of", "number_of", "object_of", "required", "string_of"]


def required(request: CircusRequest, *names: str) -> None:
    """Refuse a request without these properties."""
    for name in names:
        if request.properties.get(name) is None:
            raise MessageRefused(f"message invalid {name!r} is missing")


def name_of(request: CircusRequest) -> str:
    """Return the name of the watcher."""
    required(request, "name")
    name = string_of(request, "name")
    assert name is not None
    return name


def string_of(request: CircusRequest, key: str) -> str | None:
    """Return a text, None if missing."""
    value = request.properties.get(key)
    if value is not None and not isinstance(value, str):
        raise MessageRefused(f"message invalid: {key!r} should be a string")
    return value


def integer_of(request: CircusRequest, key: str) -> int | None:
    """Return a whole number, None if missing."""
    value = request.properties.get(key)
    if value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        raise MessageRefused(f"{key!r} isn't an integer") from None


def number_of(request: CircusRequest, key: str) -> float | None:
    """Return a number of at least 0, None if missing."""
    value = request.properties.get(key)
    if value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise MessageRefused(f"{key!r} isn't a number")
    return number


def object_of(request: CircusRequest, key: str) -> dict[str, Any]:
    """Return an object, an empty one if missing."""
    value = request.properties.get(key)
    if value is not None and not isinstance(value, dict):
        raise MessageRefused(f"{key!r} property should be an object")
    return value or {}
