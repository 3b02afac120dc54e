"""Limits of size for the package: `python -m tests.sizes`, part of `make check`.

A module that a reader cannot hold in mind, or a function that does not fit on a screen, is split by sense.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

MODULE = 400
"""Lines of a module, at most."""

FUNCTION = 40
"""Lines of a function, at most, with its docstring, without its decorators."""


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the first line and the number of lines of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def oversized(package: Path) -> list[str]:
    """Return a line for each module and each function of a package that is too long."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text()
        place = path.relative_to(package.parent)
        if (lines := text.count("\n")) > MODULE:
            found.append(f"{place}: {lines} lines, at most {MODULE}: split it by sense")
        for name, first, size in functions(ast.parse(text)):
            if size > FUNCTION:
                found.append(f"{place}:{first}: {name} has {size} lines, at most {FUNCTION}: split it by sense")
    return found


def main() -> int:
    """Print what is too long; return the exit code."""
    found = oversized(ROOT / "forkserve")
    print("\n".join(found) or f"no module has more than {MODULE} lines, no function more than {FUNCTION}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
