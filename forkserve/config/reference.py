"""The reference of options, rendered from their declarations: `forkserve options [NAME]` and docs/options.md.

Rules: pure; the only text about an option is that of its declaration.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forkserve.config import later
from forkserve.config.defaults import default_text
from forkserve.config.launch import ListenOptions, WorkerOptions
from forkserve.config.model import MasterOptions, SocketOptions, StreamOptions, WatcherOptions
from forkserve.config.options import Option, options_of, slices_of
from forkserve.errors import UsageError
from forkserve.suggest import nearest

__all__ = ["markdown", "render", "worker_options"]


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
    """Return the options of forkserve-worker that the short form passes on: all except those of its sockets."""
    return tuple(
        each for part in slices_of(WorkerOptions) if part is not ListenOptions for each in options_of(part) if each.cli
    )


def render(name: str | None = None) -> str:
    """Return the whole reference as text, or everything about one option; raises UsageError for an unknown one."""
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


def markdown() -> str:
    """Return docs/options.md."""
    return "\n".join(_markdown()) + "\n"


def _markdown() -> Iterator[str]:
    yield "# Options"
    yield ""
    yield "Written by `forkserve options --markdown`. How the files are read: [configuration.md](configuration.md)."
    yield ""
    yield "A change in a file takes effect when it is read again, by `forkservectl reloadconfig` or SIGHUP."
    yield "`forkservectl set` changes options of a running watcher; `--reload` also those that replace its processes."
    for group in _GROUPS:
        yield from ("", f"## {_title(group)}", "")
        head = (
            ("Option", "Default", "Meaning", "A change, at a reload") if group.toml else ("Flag", "Default", "Meaning")
        )
        yield from _table(head, [_cells(each, group) for each in group.options])
    yield from ("", "## Options of Circus that are not served", "")
    yield "A warning names each one that a file sets."
    yield ""
    rows = [(f"`[circus] {key}`", reason) for key, reason in later.MASTER.items()]
    rows += [(f"`[watcher:NAME] {key}`", reason) for key, reason in later.WATCHER.items()]
    yield from _table(("Option", "Effect"), rows)


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
