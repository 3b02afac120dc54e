"""Readiness probes: the values of `ready`.

`tcp://HOST:PORT`, `unix:PATH` and `http://HOST[:PORT]/PATH` connect, `exec:COMMAND` runs a command, a number is seconds
of staying up.

Rules: pure. Placeholders are replaced before, for each process.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

__all__ = ["Probe", "ProbeKind", "probe", "probe_text"]

_UNPRINTABLE = re.compile(r"[^!-~]")


class ProbeKind(Enum):
    """What a probe does."""

    TCP = "tcp"
    UNIX = "unix"
    HTTP = "http"
    EXEC = "exec"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe. `path` is that of a socket's file, or of an URL; `words` are a command, `seconds` a pause."""

    kind: ProbeKind
    text: str
    host: str = ""
    port: int = 0
    path: str = ""
    words: tuple[str, ...] = ()
    seconds: float = 0.0


def probe(text: str) -> Probe:
    """Parse the value of `ready`; raises ValueError with the expected form."""
    if text.startswith("exec:"):
        words = tuple(shlex.split(text.removeprefix("exec:")))
        if not words:
            raise ValueError("expected exec:COMMAND, got no command")
        return Probe(ProbeKind.EXEC, text, words=words)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith(("/", "@")):
            raise ValueError(f"expected unix:/PATH, got {text!r}")
        return Probe(ProbeKind.UNIX, text, path=path)
    if "://" in text:
        return _address(text)
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(
            f"expected tcp://HOST:PORT, unix:PATH, http://..., exec:COMMAND or seconds, got {text!r}"
        ) from None
    if not 0 <= seconds < 1e9:
        raise ValueError(f"expected seconds, got {text!r}")
    return Probe(ProbeKind.PAUSE, text, seconds=seconds)


def _address(text: str) -> Probe:
    if _UNPRINTABLE.search(text):
        raise ValueError(f"{text!r}: write blanks, and what is not ASCII, as %XX")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:  # of which the error of an encoding is one
        raise ValueError(f"{text!r}: {error}") from None
    is_plain = host and port != 0 and "@" not in parts.netloc and "#" not in text
    if parts.scheme == "http" and is_plain:
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return Probe(ProbeKind.HTTP, text, host, 80 if port is None else port, path)
    if parts.scheme == "tcp" and is_plain and port and not parts.path and not parts.query:
        return Probe(ProbeKind.TCP, text, host, port)
    raise ValueError(f"expected tcp://HOST:PORT or http://HOST:PORT/PATH, got {text!r}")


def probe_text(value: str) -> str | None:
    """Keep a probe as text, since it may contain placeholders; raises ValueError if it is wrong in any case."""
    if not value:
        return None
    if "$(" not in value and "((" not in value:
        probe(value)
    return value
