"""Writes a draft as a TOML file with comments.

Rules: pure; `config/toml.py` reads the result to the same values.
"""

from __future__ import annotations

from collections.abc import Iterator

from forkserve.cli.importing.draft import Draft, Scalar, Table
from forkserve.config.writing import toml_key, toml_text

__all__ = ["written"]


def written(draft: Draft, source: str) -> str:
    """Return the file; `source` is the name of the source file."""
    lines = [f"# Made of {_comment(source)} by `forkserve import`; all options: forkserve options"]
    for note in draft.notes:
        lines.append(f"# not carried: {_comment(note)}")
    for table in draft.tables:
        lines += ["", *_table(table)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> Iterator[str]:
    if table.origin:
        yield f"# {_comment(table.origin)}"
    header = ".".join(map(toml_key, table.path))
    yield f"[{header}]"
    for name, value in table.values.items():
        # a variable's name is one key, whatever is in it
        key = toml_key(name) if table.path[0] == "env" else ".".join(map(toml_key, name.split(".")))
        yield f"{key} = {_value(value)}"
    if table.env:
        yield f"[{header}.env]"
        for name, text in table.env.items():
            yield f"{toml_key(name)} = {toml_text(text)}"


def _value(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return toml_text(value) if isinstance(value, str) else str(value)


def _comment(text: str) -> str:
    """Return a comment of TOML, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
