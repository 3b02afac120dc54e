"""The reference of options, rendered from their declarations: `forkserve options [NAME]` and docs/options.md.

Rules: pure; there is no text about an option but the one it was declared with.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from socket import AddressFamily, SocketKind
from typing import Any

from forkserve.config import later
from forkserve.config.launch import ListenOptions, WorkerOptions
from forkserve.config.model import MasterOptions, SocketOptions, StreamOptions, WatcherOptions
from forkserve.config.options import Option, options_of, slices_of
from forkserve.config.values import signal_name, size
from forkserve.errors import UsageError
from forkserve.suggest import nearest
from forkserve.wording import signal_name as signal_text

__all__ = ["default_text", "markdown", "render", "worker_options"]


@dataclass(frozen=True, slots=True)
class _Group:
    """The options of one section."""

    ini: str
    toml: str
    about: str
    options: tuple[Option, ...]
    prefix: str = ""


_GROUPS = (
    _Group("[circus]", "[forkserve]", "the master", options_of(MasterOptions)),
    _Group("[socket:NAME]", "[socket.NAME]", "a listening socket", options_of(SocketOptions)),
    _Group("[watcher:NAME]", "[watcher.NAME]", "a command and its processes", options_of(WatcherOptions)),
    _Group(
        "[watcher:NAME] stdout_stream.*, stderr_stream.*",
        "[watcher.NAME.stdout_stream]",
        "where output goes",
        options_of(StreamOptions),
        "stdout_stream.",
    ),
    *(
        _Group("forkserve-worker", "", (part.__doc__ or "").split(".")[0].split("\n")[0], options_of(part))
        for part in slices_of(WorkerOptions)
    ),
)


def worker_options() -> tuple[Option, ...]:
    """Return the options of forkserve-worker that the short form hands on: all but those of its sockets."""
    return tuple(
        each for part in slices_of(WorkerOptions) if part is not ListenOptions for each in options_of(part) if each.cli
    )


def render(name: str | None = None) -> str:
    """Return the whole reference as text, or all there is about one option; raises UsageError for an unknown one."""
    if name is None:
        return "\n".join(f"{_title(group)}\n\n{_rows(group)}" for group in _GROUPS)
    wanted = name.lower()
    found = [
        _entry(option, _title(group))
        for group in _GROUPS
        for option in group.options
        if wanted.removeprefix(group.prefix) in {option.name, *option.aliases} or wanted in option.cli
    ]
    found += [f"{key}\n    {reason}\n" for key, reason in {**later.MASTER, **later.WATCHER}.items() if key == wanted]
    if not found:
        known = [each.name for group in _GROUPS for each in group.options]
        raise UsageError(f"there is no option {name!r}{nearest(name, known)}")
    return "\n".join(found)


def _title(group: _Group) -> str:
    toml = f", {group.toml} in TOML" if group.toml else ""
    return f"{group.ini}{toml}: {group.about}"


def _rows(group: _Group) -> str:
    width = max(len(_heading(each, group)) for each in group.options) + 2
    columns = max(60, min(shutil.get_terminal_size((100, 24)).columns, 110))
    lines: list[str] = []
    for each in group.options:
        text = f"{each.help} [{default_text(each)}]"
        body = textwrap.wrap(text, columns - width - 2, break_on_hyphens=False)
        lines += [
            f"  {_heading(each, group) if number == 0 else '':<{width}}{line}" for number, line in enumerate(body)
        ]
    return "\n".join(lines) + "\n"


def _heading(option: Option, group: _Group) -> str:
    """The key of a section, or the first long flag of a worker."""
    return (
        option.name
        if group.toml or not option.cli
        else next((flag for flag in option.cli if flag.startswith("--")), option.cli[0])
    )


def _entry(option: Option, section: str) -> str:
    facts = [
        ("section", section),
        ("default", "none, must be given" if option.required else default_text(option)),
        ("flag", ", ".join(option.cli)),
        ("variable", option.env or ""),
        ("also", ", ".join(option.aliases)),
        ("one of", ", ".join(option.choices)),
        ("reload", option.reload.value),
    ]
    rows = "".join(f"    {name:<9}{text}\n" for name, text in facts if text)
    return f"{option.name}\n    {option.help}\n{rows}"


def default_text(option: Option) -> str:
    """Return an option's default as a file would say it; `none` and `required` where there is none."""
    value: Any = option.default
    if option.required:
        return "required"
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return _scalar_text(option, value)


def _scalar_text(option: Option, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if option.parse is signal_name:
        return signal_text(value)
    if option.parse is size:
        return size_text(value)
    if isinstance(value, AddressFamily | SocketKind):
        return value.name
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def size_text(value: int) -> str:
    """Return a number of bytes with the largest unit that divides it: 1073741824 is `1G`."""
    for unit, factor in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


def markdown() -> str:
    """Return docs/options.md."""
    return "\n".join(_markdown()) + "\n"


def _markdown() -> Iterator[str]:
    yield "# Options"
    yield ""
    yield "Written by `forkserve options --markdown`. How the files are read: [configuration.md](configuration.md)."
    yield ""
    yield "A change in a file takes effect when it is read again, by `forkservectl reloadconfig` or SIGHUP."
    yield "`forkservectl set` changes `numprocesses` of a running watcher, and no other option."
    for group in _GROUPS:
        yield from ("", f"## {_title(group)}", "")
        head = (
            ("Option", "Default", "Meaning", "A change, at a reload") if group.toml else ("Flag", "Default", "Meaning")
        )
        yield from _table(head, [_cells(each, group) for each in group.options])
    yield from ("", "## Options of Circus that are not served", "")
    yield "Each is named in a warning when a file has it."
    yield ""
    rows = [(f"`[circus] {key}`", reason) for key, reason in later.MASTER.items()]
    rows += [(f"`[watcher:NAME] {key}`", reason) for key, reason in later.WATCHER.items()]
    rows += [("`[watcher:NAME] hooks.*`", "not called yet"), ("`[plugin:NAME]`", "not served yet, ignored")]
    yield from _table(("Option", "What becomes of it"), rows)


def _cells(option: Option, group: _Group) -> tuple[str, ...]:
    if not group.toml:
        return ", ".join(f"`{flag}`" for flag in option.cli or (option.name,)), f"`{default_text(option)}`", option.help
    names = ", ".join(f"`{name}`" for name in (*option.aliases, option.name))
    flags = f" Flag: {', '.join(f'`{flag}`' for flag in option.cli)}." if option.cli else ""
    return names, f"`{default_text(option)}`", option.help + flags, option.reload.value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
