"""Which watchers a name means: NAME, or as in supervisord GROUP:NAME, and GROUP:* for all of a group; and which
process: NAME[N], or its own name.

Rules: pure; case-insensitive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from forkserve.config.model import WatcherOptions
from forkserve.config.naming import own_name

__all__ = ["meant", "places_meant", "slot_in"]

_SLOT = re.compile(r"(?P<name>.+)\[(?P<wid>\d{1,9})\]")


def meant(name: str, groups: Mapping[str, str]) -> tuple[str, ...]:
    """Return the watchers, in lower case, that a name means; `groups` has the group of each, or an empty text.

    A watcher without a group forms its own: `web:*` and `web:web` mean web.
    """
    name = name.lower()
    if name in groups:
        return (name,)
    group, colon, member = name.partition(":")
    if not colon:
        return ()
    members = [each for each, of in groups.items() if (of.lower() or each) == group]
    return tuple(each for each in members if member in ("*", "", each))


def places_meant(name: str, watchers: Iterable[tuple[WatcherOptions, int]]) -> list[tuple[str, int]]:
    """Return the watchers and slots whose process has this name (`process_name`), of these many slots of each.

    It may stand behind the name of its watcher or of the group, `web:web_03`.
    """
    group, colon, member = name.lower().rpartition(":")
    return [
        (options.name, wid)
        for options, count in watchers
        if options.process_name and (not colon or group in (options.name.lower(), (options.group or "").lower()))
        for wid in range(1, count + 1)
        if own_name(options, wid).lower() == member
    ]


def slot_in(name: str) -> tuple[str, int] | None:
    """Return the watcher and the number of `web[3]`; None for any other name."""
    place = _SLOT.fullmatch(name)
    return (place["name"], int(place["wid"])) if place else None
