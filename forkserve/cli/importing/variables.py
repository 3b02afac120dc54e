"""Files of variables (.env, env_file), and the durations of Compose and systemd, such as 1m30s.

Rules: no I/O except reading the file. The content of such a file may be secret: a draft that contains it is marked.
"""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from forkserve.cli.importing.draft import Draft
from forkserve.config.userfiles import read_text
from forkserve.errors import ConfigError

__all__ = ["duration", "read_dotenv", "variables_of"]

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][\w.]*)\s*(?:=\s*(?P<value>.*))?")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|m|s)")


def duration(text: str) -> float | int | None:
    """Return the seconds of `90`, `1.5s`, `1m30s` or `500ms`; None for anything else."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = float(text)
    elif re.fullmatch(f"(?:{_PART.pattern})+", text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        return None
    return int(seconds) if seconds.is_integer() else round(seconds, 6)


def variables_of(path: Path) -> dict[str, str]:
    """Parse NAME=VALUE lines, with quotes, comments and `export`; raises ConfigError, OSError and
    UnicodeDecodeError.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{path}:{number}: expected NAME=VALUE, got {text!r}")
        if match["value"] is None:  # taken over from the environment
            found[match["name"]] = f"$(circus.env.{match['name']})"
            continue
        found[match["name"]] = _value(match["value"].strip())
    return found


def _value(text: str) -> str:
    quoted = re.match(r"""(['"])(.*?)(?<!\\)\1\s*(?:#.*)?$""", text)
    if quoted is None:
        return re.sub(r"(^|\s)#.*$", "", text).rstrip()
    if quoted[1] == "'":
        return quoted[2]
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), quoted[2])


def read_dotenv(path: Path, wanted: Container[str] | None, draft: Draft) -> None:
    """Add the variables of the file .env beside `path`, the wanted ones, or with None all, for all watchers."""
    try:
        found = variables_of(path.parent / ".env")
    except FileNotFoundError:
        return
    except (OSError, ConfigError, UnicodeDecodeError) as error:
        draft.note(".env", f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return
    kept = {name: text for name, text in found.items() if wanted is None or name in wanted}
    if kept:
        draft.holds(".env")
    draft.add("env", values=kept, origin=".env")
