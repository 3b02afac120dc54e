"""What names an application on the command line, read without importing or opening anything.

Rules: pure. The forms, in the order they are tried:

    paste:FILE.ini[#NAME], FILE.ini[#NAME]      a PasteDeploy application
    path/to/file.py[:EXPRESSION]                a file
    package.module:EXPRESSION                   a module, and what to take of it
    package.module[.attr]                       a module, or an attribute after a dot as in Chaussette

EXPRESSION is `attr`, `attr.sub`, or a call with literal arguments: `make()`, `make("production", debug=False)`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

__all__ = ["Call", "TargetKind", "Target", "parse_target"]


class TargetKind(Enum):
    """Where an application is looked for."""

    MODULE = "module"
    DOTTED = "module or attribute"
    FILE = "file"
    PASTE = "paste"


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments with which a factory is called."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Target:
    """One application: `where` is a module's name or a file's path, `attributes` the way from there to it."""

    text: str
    place: TargetKind
    where: str
    attributes: tuple[str, ...] = ()
    call: Call | None = None


def parse_target(text: str) -> Target:
    """Parse the user's input; raises ValueError that says what is wrong with it."""
    text = text.strip()
    if text.startswith("paste:") or text.partition("#")[0].endswith(".ini"):
        path, _, name = text.removeprefix("paste:").partition("#")
        return Target(text, TargetKind.PASTE, path, (name,) if name else ())
    where, colon, expression = text.partition(":")
    if not where:
        raise ValueError(f"no module before the colon in {text!r}; expected MODULE:ATTRIBUTE")
    if colon and not expression:
        raise ValueError(f"nothing after the colon in {text!r}; expected MODULE:ATTRIBUTE")
    attributes, call = _expression(expression) if colon else ((), None)
    if where.endswith(".py") or "/" in where:
        return Target(text, TargetKind.FILE, where, attributes, call)
    if not all(part.isidentifier() for part in where.split(".")):
        raise ValueError(f"{where!r} is neither a module's name nor a file that ends with .py")
    return Target(text, TargetKind.MODULE if colon else TargetKind.DOTTED, where, attributes, call)


def _expression(text: str) -> tuple[tuple[str, ...], Call | None]:
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"{text!r} is no attribute and no call") from None
    call = None
    if isinstance(node, ast.Call):
        call = _call(node)
        node = node.func
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise ValueError(f"{text!r} is no attribute and no call of one")
    return (node.id, *reversed(names)), call


def _call(node: ast.Call) -> Call:
    try:
        args = tuple(ast.literal_eval(arg) for arg in node.args)
        kwargs = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg is not None}
    except ValueError:
        raise ValueError(f"only literal arguments can be passed to a factory, got {ast.unparse(node)!r}") from None
    if len(kwargs) != len(node.keywords):
        raise ValueError(f"only literal arguments can be passed to a factory, got {ast.unparse(node)!r}")
    return Call(args, MappingProxyType(kwargs))
