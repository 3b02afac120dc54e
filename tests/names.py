"""Rules for the words of the package that no linter knows: `python -m tests.names`, part of `make check`.

- A name of a class stands once in the package, so that a reader, `grep` and a traceback mean the same one.
- Words that are not an engineer's do not come back into docstrings, comments, messages and docs.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

ALLOWED: dict[str, str] = {}
"""Names that may stand twice, each with the reason."""

WORDS = re.compile(r"\banew\b|\bKnow that\b|\bof its own\b|\bwhoever\b", re.IGNORECASE)
"""Say "again", "Called when ...", "its own ...", and name the subject."""

INFINITIVE = re.compile(r"\b(?:to|cannot|not|never) know that\b")
"""Where the verb is meant."""


def classes(package: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the place, `file:line`, of each public class, also of one that a function defines."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, f"{path.relative_to(package.parent)}:{node.lineno}"


def repeated(package: Path) -> list[str]:
    """Return a line for each name that more than one class has."""
    places = defaultdict(list)
    for name, place in classes(package):
        places[name].append(place)
    return [
        f"class {name} stands in {', '.join(found)}: qualify the name"
        for name, found in sorted(places.items())
        if len(found) > 1 and name not in ALLOWED
    ]


def needless(places: dict[str, str], package: Path) -> list[str]:
    """Return a line for each allowed name that no longer stands twice."""
    names = [name for name, _ in classes(package)]
    return [f"{name} need not be allowed: it does not stand twice" for name in places if names.count(name) < 2]


def worded(paths: list[Path]) -> list[str]:
    """Return a line for each place with a word that is to be avoided."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if hit := WORDS.search(INFINITIVE.sub("", line)):
                place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
                found.append(f"{place}:{number}: {hit.group()!r}: say it in plain words")
    return found


def texts(root: Path) -> list[Path]:
    """Return the files whose words are read by others."""
    sources = [path for suffix in ("py", "c", "h") for path in (root / "forkserve").rglob(f"*.{suffix}")]
    return sorted([*sources, *(root / "docs").rglob("*.md"), root / "README.md"])


def main() -> int:
    """Print what is wrong; return the exit code."""
    package = ROOT / "forkserve"
    wrong = [*repeated(package), *needless(ALLOWED, package), *worded(texts(ROOT))]
    print("\n".join(wrong) or f"{len(list(classes(package)))} names of classes, each used once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
