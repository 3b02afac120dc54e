"""Tells whether an application exists without importing it: its module's file, and the name in its source.

Rules: no user code is executed. What cannot be known (a module of an import hook, a name that is set by a star import
or dynamically) counts as existing.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from forkserve.config.userfiles import read_file
from forkserve.serving.application.target import Target, TargetKind, parse_target

__all__ = ["fault_of"]

_BY_HAND = frozenset({"globals", "vars", "exec", "setattr", "__getattr__", "locals"})
"""Names that, used in a module, may give it attributes that its source does not show."""


def fault_of(application: str, folder: Path, path: Sequence[str]) -> str | None:
    """Return what is wrong with the name of an application, or None if it may well be right.

    `folder` is where its worker starts, `path` what its import path begins with.
    """
    try:
        target = parse_target(application)
    except ValueError as error:
        return str(error)
    if target.place in (TargetKind.FILE, TargetKind.PASTE):
        file = folder / target.where
        if not file.is_file():
            return f"application {application!r}: {file} {'is no file' if file.exists() else 'does not exist'}"
        return None if target.place is TargetKind.PASTE else _fault_in(file, target)
    return _fault_of_module(target, [str(folder), *path])


def _fault_of_module(target: Target, path: Sequence[str]) -> str | None:
    parts = target.where.split(".")
    least = len(parts) if target.place is TargetKind.MODULE else 1
    places: Sequence[str] | None = path
    spec: ModuleSpec | None = None
    for count in range(1, len(parts) + 1):
        found = _spec(".".join(parts[:count]), places)
        if found is None and count > least:
            break
        if found is None:
            where = f"; looked in {path[0]} and the Python path" if count == 1 else ""
            return f"no module named {'.'.join(parts[:count])!r}, from application {target.text!r}{where}"
        spec, places = found, found.submodule_search_locations
        if places is None:
            if count < least:
                return f"{'.'.join(parts[:count])!r} is no package, from application {target.text!r}"
            break
    if spec is None or not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return _fault_in(Path(spec.origin), target) if target.place is TargetKind.MODULE else None


def _spec(name: str, places: Sequence[str] | None) -> ModuleSpec | None:
    """Find a module below `places`; at the top level also where this interpreter itself would."""
    spec = PathFinder.find_spec(name, places)
    if spec is None and "." not in name:
        if name in sys.modules:
            return sys.modules[name].__spec__
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:  # a module that was made by hand, as __main__
            return ModuleSpec(name, None)
    return spec


def _fault_in(file: Path, target: Target) -> str | None:
    """Check the source for its syntax, and for an assignment to the first attribute."""
    try:
        tree = ast.parse(read_file(file), str(file))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"application {target.text!r}: {file}{line}: {getattr(error, 'msg', error)}"
    except OSError:
        return None
    names = set(_names(tree))
    if not target.attributes or target.attributes[0] in names or _BY_HAND & names or "*" in names:
        return None
    return f"{file.stem!r} has no attribute {target.attributes[0]!r}, from application {target.text!r}"


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.Global):
            yield from node.names
