"""Finds an application or a hook by its name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from .mistakes import APPLICATION, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["load", "load_hook"]


def load(spec: str, factory: bool) -> Callable[..., Any]:
    """Return what `spec` names: module:attr(.sub), module:factory(), module, or path/to/file.py[:attr]."""
    place, _, name = spec.partition(":")
    try:
        module = import_file(place) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place + ".").startswith(error.name + "."):
            raise
        raise UserError(f"no module named {error.name!r} on {sys.executable}'s path", APPLICATION) from None
    called, name = name.endswith("()"), name[:-2] if name.endswith("()") else name
    target: Any = module
    for part in name.split(".") if name else [next((n for n in ("application", "app") if hasattr(module, n)), "app")]:
        if not hasattr(target, part):
            raise UserError("{!r} has no {!r}".format(place, name or "application or app"), APPLICATION)
        target = getattr(target, part)
    if called or factory:
        target = target()
    if not callable(target):
        raise UserError(f"{spec!r} is not callable: {type(target).__name__!r}", APPLICATION)
    found: Callable[..., Any] = target
    return found


def import_file(path: str) -> Any:
    """Import the file at `path` under its own name, with its folder on sys.path."""
    if not os.path.exists(path):
        raise UserError(f"no such file: {path}", APPLICATION)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    name = os.path.basename(path)[:-3]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"cannot import {path}", APPLICATION)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_hook(spec: str) -> Callable[..., Any]:
    """Return the hook at module:callable or, in Chaussette's form, module.callable."""
    if ":" not in spec:
        spec = ":".join(spec.rpartition(".")[::2])
    return load(spec, factory=False)
