"""The process tree for a person: the master, its watchers, their processes, and their descendants.

Rules: pure; answers of the control interface in, text out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forkserve.cli.screens import timer_note
from forkserve.cli.tables import size
from forkserve.config.handover import Identity
from forkserve.wording import exact_duration

__all__ = ["Branch", "process_tree", "tree_text"]

Answer = Any
_LINES: Mapping[bool, tuple[str, str, str, str]] = {
    True: ("├─ ", "└─ ", "│  ", "   "),
    False: ("|- ", "`- ", "|  ", "   "),
}


@dataclass(slots=True)
class Branch:
    """One line, and the lines below it."""

    text: str
    below: list[Branch] = field(default_factory=list)


def process_tree(version: Answer, stats: Answer, companions: Answer) -> Branch:
    """Return the tree, from answers to `version`, `stats` and `dstats`."""
    known = {each["name"]: each for each in companions}
    name = f" {version['name']}" if version["name"] else ""
    memory = _memory(known["master"]) if "master" in known else ""
    root = Branch(f"forkserve{name} {version['pid']}, up {exact_duration(version['uptime'])}{memory}")
    root.below += [_watcher(each) for each in stats]
    root.below += [Branch(f"({name}) {each['pid']}{_memory(each)}") for name, each in known.items() if name != "master"]
    return root


def _watcher(watcher: Answer) -> Branch:
    running = [each for each in watcher["processes"] if not each.get("zygote")]
    branch = Branch(f"{watcher['name']}: {watcher['state']}, {len(running)} of {watcher['numprocesses']}")
    if note := timer_note(watcher.get("timer")):
        branch.text = f"{watcher['name']}: {note}"
    branch.below += [_process(each, watcher["generation"]) for each in watcher["processes"]]
    missing = (each for each in watcher["slots"] if each["state"] in ("backoff", "fatal"))
    branch.below += [
        Branch(f"{each.get('name') or Identity(watcher['name'], each['wid'])} {each['state']}: {each['reason']}")
        for each in missing
    ]
    return branch


def _process(process: Answer, newest: int) -> Branch:
    old = f", of generation {process['generation']}" if process["generation"] < newest else ""
    state = f"{process['state']}{old}, up {exact_duration(process['uptime'])}{_memory(process)}"
    usage = process.get("usage") or {}
    return Branch(f"{process['name']} {process['pid']} {state}", [_child(each) for each in usage.get("children", ())])


def _child(usage: Answer) -> Branch:
    text = f"{usage.get('program') or '?'} {usage['pid']}, up {exact_duration(usage['age'])}{_memory(usage)}"
    return Branch(text, [_child(each) for each in usage.get("children", ())])


def _memory(usage: Answer) -> str:
    if usage.get("pss") is not None:
        return f", PSS {size(usage['pss'])}"
    return "" if usage.get("memory") is None else f", RSS {size(usage['memory'])}"


def tree_text(root: Branch, *, unicode: bool) -> str:
    """Draw a tree, with the lines of Unicode or of ASCII."""
    return "\n".join([root.text, *_drawn(root, "", _LINES[unicode])])


def _drawn(branch: Branch, before: str, lines: tuple[str, str, str, str]) -> Iterator[str]:
    middle, last, bar, room = lines
    for each in branch.below:
        is_last = each is branch.below[-1]
        yield f"{before}{last if is_last else middle}{each.text}"
        yield from _drawn(each, before + (room if is_last else bar), lines)
