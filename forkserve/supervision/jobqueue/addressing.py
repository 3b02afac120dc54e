"""Which watchers a name means: NAME, or as in supervisord GROUP:NAME, and GROUP:* for all of a group.

Rules: pure; case-insensitive.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["meant"]


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
