"""Fills one dataclass of options from one section, and reports every invalid value.

Rules: pure. It knows how options are declared and no particular option.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import unwrap
from types import MappingProxyType
from typing import Any

from forkserve.config.document import Findings, Kind, Section, Value
from forkserve.config.elsewhere import advice_on
from forkserve.config.options import Option, Parse, options_of
from forkserve.config.placeholders import unset_text
from forkserve.config.portions import portion
from forkserve.config.probes import probe_text
from forkserve.config.values import (
    boolean,
    exit_codes,
    integer,
    local_address,
    names,
    number,
    optional_integer,
    optional_octal,
    paths,
    seconds,
    signal_name,
    size,
    tcp_address,
)

__all__ = ["read_options", "refuse_unknown"]

_TAKES_A_LIST = ("cmd", "args", "shell_args")
_NAME_OR_NUMBER = ("uid", "gid", "owner", "group", "proto")
_KINDS: Mapping[Parse, tuple[tuple[Kind, ...], str]] = {
    boolean: ((Kind.BOOLEAN,), "true or false"),
    integer: ((Kind.INTEGER,), "an integer"),
    optional_integer: ((Kind.INTEGER,), "an integer"),
    number: ((Kind.INTEGER, Kind.FLOAT), "a number"),
    seconds: ((Kind.INTEGER, Kind.FLOAT, Kind.STRING), "seconds"),
    size: ((Kind.INTEGER, Kind.STRING), "a number of bytes"),
    signal_name: ((Kind.INTEGER, Kind.STRING), "a signal"),
    exit_codes: ((Kind.INTEGER, Kind.STRING), "exit codes"),
    portion: ((Kind.INTEGER, Kind.STRING), "a number of processes, or a percentage"),
    probe_text: ((Kind.INTEGER, Kind.FLOAT, Kind.STRING), "an address, a command or seconds"),
    local_address: ((Kind.INTEGER, Kind.STRING), "an address or a port"),
    tcp_address: ((Kind.INTEGER, Kind.STRING), "an address or a port"),
}
"""The types of TOML in which a value may be written; a string for all others."""


def read_options(
    cls: type[Any], values: Mapping[str, Value], findings: Findings, *, label: str, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, Value]]:
    """Return the valid values, parsed, by the name of the option, and the keys that are not options of `cls`.

    `prefix` is put before the key in findings, e.g. `stdout_stream.`.
    """
    options = {name: each for each in options_of(cls) for name in (each.name, *each.aliases)}
    given: dict[str, Any] = {}
    rest: dict[str, Value] = {}
    for key, value in values.items():
        option = options.get(key)
        if option is None:
            rest[key] = value
            continue
        unset = unset_text(value.text)
        try:
            wrong = _wrong_type(option, value)
            if wrong:
                raise ValueError(wrong)
            given[option.name] = option.read(value.text)
        except ValueError as error:
            findings.error(value.origin, unset or str(error), label=label, key=prefix + key)
        else:
            if unset:
                findings.failure(value.origin, unset, label=label, key=prefix + key)
    return given, rest


def _wrong_type(option: Option, value: Value) -> str | None:
    """Report a value of the wrong TOML type, which is a mistake or will become one: `numprocesses = "4"`, `cmd = 5`."""
    if value.kind is Kind.TEXT:
        return None
    if value.kind is Kind.LIST:
        fits = option.name in _TAKES_A_LIST or option.parse in (paths, names, exit_codes)
        return None if fits else "expected one value, got a list"
    if value.kind is Kind.INTEGER and option.parse is optional_octal:
        # the number 660 in TOML is decimal, which no writer of a file mode means
        return f'write an octal number as a string, such as "0660"; got the number {value.text}'
    kinds, expected = _KINDS.get(unwrap(option.parse), ((Kind.STRING,), "a string"))
    if value.kind in kinds or (value.kind is Kind.INTEGER and option.name in _NAME_OR_NUMBER):
        return None
    return f"expected {expected}, got the {value.kind.value} {value.text!r}"


def refuse_unknown(
    cls: type[Any],
    rest: Mapping[str, Value],
    section: Section,
    *,
    findings: Findings,
    prefix: str = "",
    known: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Report unknown keys, with the nearest name: an error if the section is strict, else a warning.

    `known` tells what an option is called here that has another name elsewhere.
    """
    names = [name for each in options_of(cls) for name in (each.name, *each.aliases)]
    note = findings.error if section.strict else findings.warning
    for key, value in rest.items():
        outcome = "" if section.strict else ", ignored"
        advice = advice_on(key, names, known)
        note(value.origin, f"unknown option{outcome}{advice}", label=section.label, key=prefix + key)
