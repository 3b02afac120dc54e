"""What the sections `[env]` and `[env:PATTERNS]` give to a watcher.

Rules, as in Circus: pure. `[env]` is for all watchers, `[env:a,b*]` for those whose name matches a pattern; later
sections win. In a value `$NAME`, in upper case, stands for a variable of the master's environment; an unset one is
empty. Lower case is left alone. Values inherited by `copy_env` are never changed (Circus damages a password like
`foo$BAR`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from forkserve.config.document import Section, Value
from forkserve.config.placeholders import env_values, expand

__all__ = ["environment_of", "global_environment"]

_VARIABLE = re.compile(r"\$([A-Z][A-Z0-9_]*)")


def global_environment(sections: Iterable[Section], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `[env]`."""
    return _joined((each for each in sections if each.title == "env"), environ)


def environment_of(watcher: str, sections: Iterable[Section], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the sections give the watcher of this name; `environ` itself is not in the result."""
    fitting = [each for each in sections if each.title == "env" or _fits(watcher, each)]
    # [env] is the weakest wherever it stands
    return _joined(sorted(fitting, key=lambda each: each.title != "env"), environ)


def _fits(watcher: str, section: Section) -> bool:
    patterns = section.name.split(",") if section.kind == "env" else []
    return any(fnmatchcase(watcher, pattern.strip()) for pattern in patterns)


def _joined(sections: Iterable[Section], environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in sections:
        for name, value in section.values.items():
            found[name] = _resolved(value, {**environ, **found}, environ)
    return found


def _resolved(value: Value, known: Mapping[str, str], environ: Mapping[str, str]) -> str:
    text = _VARIABLE.sub(lambda match: environ.get(match[1], ""), value.text)
    return expand(text, env_values(known))
