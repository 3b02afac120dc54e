"""Imports what a user has named in a configuration: `package.module.attribute` or `package.module:attribute`."""

from __future__ import annotations

import importlib
import os
import site
import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["add_folders", "load_dotted"]


def load_dotted(name: str) -> Any:
    """Return the object that a dotted name leads to.

    Raises ImportError or AttributeError that says where the name ends, and whatever the module itself raises.
    """
    module, colon, attributes = name.partition(":")
    if colon:
        return _follow(importlib.import_module(module), attributes.split("."))
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if length > 1 and error.name is not None and (module + ".").startswith(error.name + "."):
                continue  # it may be a class in a module
            raise
        return _follow(found, parts[length:])
    raise ImportError(f"{name!r} names no module: expected package.module.attribute")


def add_folders(folders: Iterable[str]) -> None:
    """Import from these folders too, after the existing ones; their .pth files apply (site)."""
    for folder in folders:
        if os.path.abspath(folder) not in map(os.path.abspath, sys.path):
            site.addsitedir(folder)


def _follow(found: Any, attributes: list[str]) -> Any:
    for attribute in attributes:
        found = getattr(found, attribute)
    return found
