"""Parsers of option values, and checks of the results.

Rules: every function is pure. A parser takes text and raises ValueError whose message says what was expected and what
was given. A check takes the parsed value and returns what is wrong with it, or None. Times are seconds, sizes bytes.
"""

from __future__ import annotations

import ipaddress
import math
import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import wraps
from socket import AddressFamily, SocketKind
from typing import Any, TypeVar

from forkserve.config.address import Address, parse_address
from forkserve.config.options import Check, Parse

__all__ = [
    "address",
    "at_least",
    "between",
    "boolean",
    "exit_codes",
    "zmq_address",
    "commas",
    "family",
    "forwarded_names",
    "header_name",
    "integer",
    "is_file",
    "local_address",
    "log_level",
    "log_output",
    "logger_config",
    "mapping",
    "member",
    "names",
    "not_empty",
    "number",
    "octal",
    "one_of",
    "optional",
    "optional_integer",
    "optional_octal",
    "paths",
    "root_path",
    "seconds",
    "signal_name",
    "size",
    "socket_name",
    "socket_type",
    "tcp_address",
    "text",
    "words",
]

E = TypeVar("E", bound=Enum)

_TRUE = frozenset(("yes", "true", "on", "1"))
_FALSE = frozenset(("no", "false", "off", "0"))
_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_PERIODS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
FORWARDED_NAMES = ("for", "proto", "host", "port")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def text(value: str) -> str:
    """Return the text as it is."""
    return value


def names(value: str) -> tuple[str, ...]:
    """Read names that are separated by commas or blanks, each once."""
    return tuple(dict.fromkeys(value.replace(",", " ").split()))


def exit_codes(value: str) -> tuple[int, ...]:
    """Read exit codes that are separated by commas or blanks, each once."""
    codes = tuple(dict.fromkeys(integer(word) for word in value.replace(",", " ").split()))
    wrong = next((code for code in codes if not 0 <= code <= 255), None)
    if wrong is not None:
        raise ValueError(f"expected exit codes from 0 to 255, got {wrong}")
    return codes


def integer(value: str) -> int:
    """Read a whole number in decimal."""
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"expected an integer, got {value!r}") from None


def number(value: str) -> float:
    """Read a finite decimal number."""
    try:
        result = float(value)
    except ValueError:
        raise ValueError(f"expected a number, got {value!r}") from None
    if not math.isfinite(result):
        raise ValueError(f"expected a finite number, got {value!r}")
    return result


def boolean(value: str) -> bool:
    """Read yes/true/on/1 or no/false/off/0 in any case, the words of Circus."""
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"expected yes, true, on, 1, no, false, off or 0, got {value!r}")


def seconds(value: str) -> float:
    """Read a duration: `30`, `1.5`, `500ms`, `10s`, `5m`, `2h`, `1d`; the result is in seconds."""
    return _scaled(value, _PERIODS, "a duration such as 30, 500ms, 5m or 2h")


def size(value: str) -> int:
    """Read a size: `4096`, `64k`, `10M`, `1G`, in powers of 1024; the result is in bytes."""
    return int(_scaled(value, _UNITS, "a size such as 4096, 64k, 10M or 1G"))


def _scaled(value: str, units: dict[str, Any], expected: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", value)
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        raise ValueError(f"expected {expected}, got {value!r}")
    return float(match[1]) * float(units[unit])


def octal(value: str) -> int:
    """Read a file mode or umask: `022`, `0660` or `0o660`, always octal."""
    try:
        result = int(value.strip().lower().removeprefix("0o"), 8)
    except ValueError:
        result = -1
    if not 0 <= result <= 0o7777:
        raise ValueError(f"expected an octal number such as 022 or 0660, got {value!r}")
    return result


def optional_octal(value: str) -> int | None:
    """Read an octal number, or nothing from empty text."""
    return octal(value) if value.strip() else None


def optional_integer(value: str) -> int | None:
    """Read a whole number, or nothing from empty text."""
    return integer(value) if value.strip() else None


def signal_name(value: str) -> int:
    """Read a signal: `TERM`, `SIGTERM`, `term`, `15`, `SIGRTMIN+1`; the result is its number."""
    word = value.strip().upper().removeprefix("SIG")
    realtime = re.fullmatch(r"(RTMIN|RTMAX)([+-]\d+)", word)
    if realtime:
        result = int(signal.Signals["SIG" + realtime[1]]) + int(realtime[2])
        if signal.SIGRTMIN <= result <= signal.SIGRTMAX:
            return result
    elif word.isdecimal() and 0 < int(word) < signal.NSIG:
        return _signal(int(word))
    elif "SIG" + word in signal.Signals.__members__:
        return signal.Signals["SIG" + word]
    raise ValueError(f"expected a signal such as TERM, SIGUSR1, 15 or SIGRTMIN+1, got {value!r}")


def _signal(value: int) -> int:
    try:
        return signal.Signals(value)
    except ValueError:
        return value


def words(value: str) -> tuple[str, ...]:
    """Split like a POSIX shell, without expanding anything."""
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"cannot be split into words ({str(error).lower()}): {value!r}") from None


def socket_name(value: str) -> str | None:
    """Parse the name of a socket, which is case-insensitive, or None for empty text."""
    return value.strip().lower() or None


def paths(value: str) -> tuple[str, ...]:
    """Split at white space; a path with a space must be quoted."""
    return words(value)


def address(value: str) -> Address:
    """Read an address to listen at; see `forkserve.config.address`."""
    return parse_address(value)


def local_address(value: str) -> Address:
    """Parse a local address: a port alone is one of 127.0.0.1, and no name but localhost is looked up."""
    word = value.strip()
    found = parse_address(f"127.0.0.1:{word.removeprefix(':')}" if word.removeprefix(":").isdecimal() else word)
    if found.host == "localhost":
        found = replace(found, host="127.0.0.1")
    if found.fd is not None or (found.path is None and not _is_ip(found.host)):
        raise ValueError(f"expected IP:PORT, [IPV6]:PORT, PORT, unix:PATH or unix:@NAME, got {value!r}")
    return found


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def family(value: str) -> AddressFamily:
    """Read AF_INET, AF_INET6 or AF_UNIX in any case."""
    return _constant(AddressFamily, value, ("AF_INET", "AF_INET6", "AF_UNIX"))


def socket_type(value: str) -> SocketKind:
    """Read SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM or SOCK_SEQPACKET in any case, SOCK_ being optional."""
    kinds = ("STREAM", "DGRAM", "RAW", "RDM", "SEQPACKET")
    word = f"SOCK_{value.strip()}" if value.strip().upper() in kinds else value
    return _constant(SocketKind, word, tuple(f"SOCK_{kind}" for kind in kinds))


def _constant(kind: type[E], value: str, names: tuple[str, ...]) -> E:
    name = value.strip().upper()
    if name not in names:
        raise ValueError(f"expected {_listing(names)}, got {value!r}")
    return kind[name]


def log_level(value: str) -> str:
    """Read the name of a log level in any case."""
    word = {"warn": "warning", "fatal": "critical"}.get(value.strip().lower(), value.strip().lower())
    if word not in LOG_LEVELS:
        raise ValueError(f"expected {_listing(LOG_LEVELS)}, got {value!r}")
    return word


def log_output(value: str) -> str:
    """Parse the destination of a log; Circus's `stdout` is its stderr, and so `-` here."""
    word = value.strip()
    return "-" if word in ("", "stdout") else word


def logger_config(value: str) -> str | None:
    """Parse the path of a file, or None for empty text or Circus's word for its default."""
    word = value.strip()
    return None if word in ("", "default") else word


def tcp_address(value: str) -> str | None:
    """Read `IP:PORT`, or nothing from empty text."""
    if not value.strip():
        return None
    found = parse_address(value.strip())
    if found.path is not None or found.fd is not None or not found.host:
        raise ValueError(f"expected IP:PORT, got {value!r}")
    return str(found)


def zmq_address(value: str) -> str | None:
    """Parse a ZeroMQ address to listen at, `tcp://HOST:PORT` or `ipc://PATH`, or None for empty text."""
    word = value.strip()
    if not word:
        return None
    is_tcp = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:/\s]+):(\d+|\*)", word)
    if not (is_tcp or re.fullmatch(r"ipc://.+", word)):
        raise ValueError(f"expected tcp://HOST:PORT or ipc://PATH, got {value!r}")
    return word


def is_file(place: str) -> bool:
    """Tell whether a log goes to a file: neither to stderr or stdout (`-`) nor to syslog."""
    return place != "-" and not place.startswith("syslog:")


def commas(value: str) -> tuple[str, ...]:
    """Split at commas; empty parts are dropped."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def forwarded_names(value: str) -> tuple[str, ...]:
    """Parse what is trusted of proxies, `for,proto` or `X-Forwarded-For,X-Forwarded-Proto`; nothing if empty."""
    names = tuple(part.lower().removeprefix("x-forwarded-") for part in commas(value))
    for name in names:
        if name not in FORWARDED_NAMES:
            raise ValueError(f"expected some of {', '.join(FORWARDED_NAMES)}, separated by commas, got {name!r}")
    return names


def header_name(value: str) -> str:
    """Parse the name of a header field (RFC 9110 section 5.1); may be empty."""
    if not re.fullmatch(r"[!#$%&'*+.^`|~0-9A-Za-z-]*", value):
        raise ValueError(f"expected the name of a header field, got {value!r}")
    return value


def root_path(value: str) -> str:
    """Parse the path of an application, without the trailing slash: `/shop`; `/` and empty text are the root."""
    if value and not value.startswith("/"):
        raise ValueError(f"expected a path that begins with a slash, such as /{value}, got {value!r}")
    return value.rstrip("/")


def mapping(value: str) -> tuple[str, str]:
    """Read `/url=folder`."""
    url, equals, folder = value.partition("=")
    if not (equals and url.startswith("/") and folder):
        raise ValueError(f"expected /URL=FOLDER, got {value!r}")
    return url, folder


def member(kind: type[E]) -> Callable[[str], E]:
    """Make a parser of an enum by the values of its members, in any case."""

    def parse(value: str) -> E:
        for each in kind:
            if str(each.value).lower() == value.strip().lower():
                return each
        raise ValueError(f"expected {_listing([str(each.value) for each in kind])}, got {value!r}")

    return parse


def optional(parse: Parse) -> Parse:
    """Make a parser for which empty text means None; `inspect.unwrap` finds the original one."""

    @wraps(parse)
    def parse_or_none(value: str) -> Any:
        return parse(value) if value.strip() else None

    return parse_or_none


def at_least(low: float) -> Check:
    """Make a check for a lower bound; None passes."""
    return lambda value: f"must be at least {low}, got {value}" if value is not None and value < low else None


def between(low: float, high: float) -> Check:
    """Make a check for both bounds; None passes."""

    def check(value: Any) -> str | None:
        return None if value is None or low <= value <= high else f"must be between {low} and {high}, got {value}"

    return check


def one_of(*allowed: str) -> Check:
    """Make a check for a closed list of words."""
    return lambda value: None if value in allowed else f"expected {_listing(allowed)}, got {value!r}"


def not_empty(value: Any) -> str | None:
    """Refuse an empty value."""
    return None if value else "must not be empty"


def _listing(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
