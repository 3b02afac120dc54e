"""What is written as INI and as TOML is the same configuration, whatever the values."""

from __future__ import annotations

import shlex
import signal
import string
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from forkserve.config.build import build
from forkserve.config.document import Findings
from forkserve.config.ini import read_ini
from forkserve.config.model import Config
from forkserve.config.toml import read_toml

Table = Mapping[str, object]

names = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=8)
# a value may not begin a comment, nor end in white space, nor be a lone `""`
plain = st.text(string.ascii_letters + string.digits + "/=:-_.%$ ", min_size=1, max_size=20).map(str.strip).filter(bool)
commands = st.lists(plain, min_size=1, max_size=4).map(shlex.join)
numbers = st.integers(0, 10_000)
durations = st.floats(0, 10_000, allow_nan=False).map(lambda value: round(value, 3))
streams = st.fixed_dictionaries({"class": st.just("FileStream"), "filename": plain}, optional={"max_bytes": numbers})

watchers = st.fixed_dictionaries(
    {"cmd": commands},
    optional={
        "numprocesses": numbers,
        "copy_env": st.booleans(),
        "autostart": st.booleans(),
        "graceful_timeout": durations,
        "max_age": durations,
        "priority": st.integers(-9, 9),
        "stop_signal": st.sampled_from(["TERM", "sigint", "9", "SIGRTMIN+2", signal.SIGUSR1.name]),
        "umask": st.integers(0, 0o777).map(lambda value: f"{value:03o}"),
        "working_dir": plain,
        "rlimit_nofile": numbers,
        "stdout_stream": streams,
        "env": st.dictionaries(names.map(str.upper), plain, max_size=3),
    },
)
sockets = st.one_of(
    st.fixed_dictionaries({"host": st.sampled_from(["localhost", "::1"]), "port": st.just(0)}),
    st.fixed_dictionaries({"fd": numbers}, optional={"backlog": st.integers(1, 99), "blocking": st.booleans()}),
)
documents = st.fixed_dictionaries(
    {
        "watcher": st.dictionaries(names, watchers, max_size=3),
        "socket": st.dictionaries(names, sockets, max_size=2),
        "env": st.dictionaries(names.map(str.upper), plain, max_size=2),
    }
)


def as_ini(document: Mapping[str, Mapping[str, Table]]) -> str:
    lines = ["[env]", *(f"{key} = {value}" for key, value in document["env"].items())]
    for kind in ("socket", "watcher"):
        for name, table in document[kind].items():
            own = table.get("env", {})
            assert isinstance(own, Mapping)
            lines += [f"[{kind}:{name}]", *ini_lines(table)]
            lines += [f"[env:{name}]", *(f"{key} = {value}" for key, value in own.items())]
    return "\n".join(lines)


def ini_lines(table: Table, prefix: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ini_lines(value, f"{key}.") if key != "env" else []
        else:
            lines.append(f"{prefix}{key} = {value}")
    return lines


def as_toml(document: Mapping[str, Mapping[str, Table]]) -> str:
    lines = ["[env]", *toml_lines(document["env"])]
    for kind in ("socket", "watcher"):
        for name, table in document[kind].items():
            lines += [f'[{kind}."{name}"]', *toml_lines(table)]
    return "\n".join(lines)


def toml_lines(table: Table) -> list[str]:
    return [f'"{key}" = {toml_value(value)}' for key, value in table.items()]


def toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(toml_lines(value)) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # a literal string of TOML knows no escapes and no single quotes
    return f"'{value}'" if "'" not in str(value) else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def built(reader: object, text: str) -> tuple[Config, tuple[str, ...]]:
    findings = Findings()
    assert callable(reader)
    config = build(reader(text, "file", findings), {"HOME": "/home/ada"}, findings)
    return config, tuple(line.partition("]")[2] for line in findings.errors)


@given(documents)
def test_ini_and_toml_of_the_same_values_give_equal_configurations(document: Mapping[str, Mapping[str, Table]]) -> None:
    from_ini, ini_errors = built(read_ini, as_ini(document))
    from_toml, toml_errors = built(read_toml, as_toml(document))
    assert from_ini == from_toml
    assert sorted(ini_errors) == sorted(toml_errors)


@given(st.text())
def test_no_text_makes_the_ini_reader_fail_otherwise_than_by_findings(text: str) -> None:
    built(read_ini, text)


@given(st.text())
def test_no_text_makes_the_toml_reader_fail_otherwise_than_by_findings(text: str) -> None:
    built(read_toml, text)


@given(st.lists(st.sampled_from(
    ["[circus]", "[watcher:a]", "[socket:b]", "[env:a*]", "cmd = x", "cmd", " more", "port = y", "umask: 9",
     "stdout_stream.class = x", "numprocesses = -1", "hooks.x = y", "uid = nobody", "a;b = c ; d", "rem", "path = @"]
), max_size=20))  # fmt: skip
def test_no_shuffle_of_ini_lines_fails_otherwise_than_by_findings(lines: list[str]) -> None:
    built(read_ini, "\n".join(lines))
