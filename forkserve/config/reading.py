"""Fills one dataclass of options from one section, and notes every value that does not fit.

Rules: pure. It knows how options are declared and nothing of any particular one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkserve.config.document import Findings, Kind, Section, Value
from forkserve.config.options import Option, options_of
from forkserve.config.placeholders import nearest
from forkserve.config.values import optional_octal, paths

__all__ = ["read_options", "refuse_unknown"]

_TAKES_A_LIST = ("cmd", "args", "shell_args")


def read_options(
    cls: type[Any], values: Mapping[str, Value], findings: Findings, *, label: str, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, Value]]:
    """Return the values that fit, parsed, by the name of the option, and the keys that are no option of `cls`.

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
        try:
            given[option.name] = _parsed(option, value)
        except ValueError as error:
            findings.error(value.origin, str(error), label=label, key=prefix + key)
    return given, rest


def _parsed(option: Option, value: Value) -> Any:
    if value.kind is Kind.LIST and option.name not in _TAKES_A_LIST and option.parse is not paths:
        raise ValueError("expected one value, got a list")
    if value.kind is Kind.INTEGER and option.parse is optional_octal:
        # the number 660 in TOML is decimal, which nobody means who writes a file mode
        raise ValueError(f'write an octal number as a string, such as "0660"; got the number {value.text}')
    parsed = option.parse(value.text)
    wrong = option.check(parsed) if option.check else None
    if wrong:
        raise ValueError(wrong)
    return parsed


def refuse_unknown(
    cls: type[Any], rest: Mapping[str, Value], section: Section, *, findings: Findings, prefix: str = ""
) -> None:
    """Note keys that nobody knows: an error where the section is strict, else a warning; with the nearest name."""
    names = [name for each in options_of(cls) for name in (each.name, *each.aliases)]
    note = findings.error if section.strict else findings.warning
    for key, value in rest.items():
        outcome = "" if section.strict else ", ignored"
        advice = nearest(key, names)
        note(value.origin, f"unknown option{outcome}{advice}", label=section.label, key=prefix + key)
