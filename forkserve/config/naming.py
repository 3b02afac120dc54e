"""What the processes of a watcher are called: `web[3]`, or with `process_name` such as `web:web_03`.

A name belongs to a slot, so that it stays through restarts and reloads. `first_wid` moves `$(circus.wid)` as
supervisord's `numprocs_start` does; slots themselves are numbered from 1.

Rules: pure.
"""

from __future__ import annotations

import re

from forkserve.config.handover import ZYGOTE_WID, Identity
from forkserve.config.model import WatcherOptions
from forkserve.config.placeholders import expand, names_in

__all__ = ["AT_A_SLOT", "identity_of", "may_have_several", "name_fault", "own_name", "slot_values"]

AT_A_SLOT = ("name", "wid", "process_name")
"""The placeholders that a slot alone gives a value."""
_FORBIDDEN = re.compile(r"[\s/:*?\[\]\x00-\x1f]")


def own_name(options: WatcherOptions, wid: int) -> str:
    """Return the name of the process of a slot by `process_name`; empty if it has none but `web[3]`.

    A pattern without the number names the first slot alone.
    """
    pattern = options.process_name
    if pattern is None or wid == ZYGOTE_WID or (wid > 1 and "wid" not in names_in(pattern)):
        return ""
    return expand(pattern, {"name": options.name, "wid": str(_number(options, wid))})


def identity_of(options: WatcherOptions, wid: int) -> Identity:
    """Return which process a slot of a watcher has."""
    return Identity(options.name, wid, own_name(options, wid))


def slot_values(options: WatcherOptions, wid: int, circus_wid: int = 0) -> dict[str, str]:
    """Return the values of `AT_A_SLOT`; `circus_wid` is the number of a process that is beside its predecessor."""
    number = str(_number(options, circus_wid or wid))
    return {"name": options.name, "wid": number, "process_name": own_name(options, wid) or f"{options.name}[{wid}]"}


def may_have_several(options: WatcherOptions) -> bool:
    """Tell whether the configuration gives a watcher more than one process."""
    return max(options.numprocesses, options.numprocesses_max) > 1 and not options.singleton


def name_fault(options: WatcherOptions) -> str | None:
    """Return what is wrong with `process_name`, or None."""
    pattern = options.process_name or ""
    if supervisords := re.search(r"%\((\w+)\)(0?\d*)[sd]", pattern):
        known = {"process_num": "wid", "program_name": "name", "group_name": "group"}
        width = f":{supervisords[2]}" if supervisords[2] else ""
        here = known.get(supervisords[1])
        advice = f": write $(circus.{here}{width})" if here in AT_A_SLOT else ""
        return f"{supervisords[0]} is supervisord's{advice}"
    unknown = [name for name in names_in(pattern) if name not in ("name", "wid")]
    if unknown:
        return f"circus.{unknown[0]} is not known here: use $(circus.name) and $(circus.wid)"
    if may_have_several(options) and "wid" not in names_in(pattern):
        return "several processes would have one name: put $(circus.wid) into it"
    bad = _FORBIDDEN.search(own_name(options, 1))
    return None if bad is None else f"a name cannot contain {bad[0]!r}"


def _number(options: WatcherOptions, wid: int) -> int:
    return wid if wid == ZYGOTE_WID else wid + options.first_wid - 1
