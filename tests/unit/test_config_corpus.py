"""Every file of tests/corpus/config gives what stands beside it: a .json for a good one, a .errors for a bad one.

The .json holds the values that matter, not all; its `warnings` are complete.
"""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from socket import AddressFamily, SocketKind
from typing import Any

import pytest

from forkserve.config.load import load
from forkserve.config.model import Config
from forkserve.errors import ConfigErrors, ExitCode

CORPUS = Path(__file__).parent.parent / "corpus" / "config"
ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/home/ada", "SECRET": "foo$BAR"}

FILES = sorted(each.name for each in CORPUS.iterdir() if each.suffix in (".ini", ".toml"))
GOOD = [name for name in FILES if (CORPUS / name).with_suffix(".json").exists()]
BAD = [name for name in FILES if (CORPUS / f"{name}.errors").exists()]


def plain(value: Any) -> Any:
    """What JSON can say of a value."""
    if isinstance(value, AddressFamily | SocketKind):
        return value.name
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


def matches(expected: Any, value: Any, place: str = "") -> list[str]:
    """Return what differs; tables are compared by the keys that are expected, but for free tables."""
    if isinstance(expected, dict) and isinstance(value, dict) and not place.endswith(("env", "extra", "rlimits")):
        return [line for key, each in expected.items() for line in matches(each, value.get(key), f"{place} {key}")]
    return [] if expected == value else [f"{place}: expected {expected!r}, got {value!r}"]


def readable(config: Config) -> dict[str, Any]:
    return {
        "master": plain(config.master),
        "sockets": {each.name: plain(each) for each in config.sockets},
        "watchers": {each.name: plain(each) for each in config.watchers},
        "warnings": list(config.warnings),
    }


def test_every_file_of_the_corpus_is_judged() -> None:
    assert sorted(GOOD + BAD) == FILES


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_gives_the_values_and_warnings_beside_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    expected = json.loads((CORPUS / name).with_suffix(".json").read_text())
    assert matches(expected, readable(load(name, environ=ENVIRON))) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_all_its_errors_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    with pytest.raises(ConfigErrors) as raised:
        load(name, environ=ENVIRON)
    assert str(raised.value).splitlines() == (CORPUS / f"{name}.errors").read_text().splitlines()
    assert raised.value.exit_code == ExitCode.CONFIG
