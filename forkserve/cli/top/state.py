"""The user's choices on the screen of `top`: the row, the order, the text that lies over it. Pure.

A key leads from one state to the next; what must be requested from the master for it is returned as a wish.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from forkserve.cli.top.page import HELP
from forkserve.cli.top.rows import SORTS, Row

__all__ = ["Key", "TopState", "Wish", "pressed"]


class Key(Enum):
    """Keys other than letters."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"
    ESCAPE = "escape"
    ENTER = "enter"


class Wish(Enum):
    """What is to be done after a key."""

    NOTHING = "nothing"
    LEAVE = "leave"
    LOGS = "logs"
    STACKS = "stacks"
    RELOAD = "reload"


_STEPS = {Key.UP: -1, Key.DOWN: 1, "k": -1, "j": 1}
_LETTERS = {"l": Wish.LOGS, "S": Wish.STACKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopState:
    """`chosen` is the key of a row, `text` lies over the table from its line `first` on, `asks` is a question."""

    sort: str = "name"
    chosen: tuple[str, int] | None = None
    title: str = ""
    text: tuple[str, ...] | None = None
    first: int = 0
    asks: str = ""
    message: str = ""

    def index(self, rows: tuple[Row, ...]) -> int:
        """Return which row is chosen; that of its watcher if the row is gone, or the first."""
        keys = [row.key for row in rows]
        if self.chosen in keys:
            return keys.index(self.chosen)
        watcher = (self.chosen[0], 0) if self.chosen else None
        return keys.index(watcher) if watcher in keys else 0

    def over(self, title: str, lines: list[str], *, at_end: bool = False) -> TopState:
        """Put a text over the table."""
        return replace(self, title=title, text=tuple(lines), first=len(lines) if at_end else 0, message="")


def pressed(state: TopState, key: Key | str, rows: tuple[Row, ...], height: int) -> tuple[TopState, Wish]:
    """Return the state after a key, and the wish; `height` is the number of lines for rows or text."""
    state = replace(state, message="")
    if state.asks:
        return replace(state, asks=""), Wish.RELOAD if key == "y" else Wish.NOTHING
    if state.text is not None:
        return _in_text(state, key, height), Wish.NOTHING
    if key == "q" or (isinstance(key, str) and key in _LETTERS and rows):
        return state, _LETTERS.get(key, Wish.LEAVE)
    return _in_table(state, key, rows, height), Wish.NOTHING


def _in_table(state: TopState, key: Key | str, rows: tuple[Row, ...], height: int) -> TopState:
    if key in ("h", "?"):
        return state.over("Keys and columns", HELP.splitlines())
    if key == "s":
        names = list(SORTS)
        sort = names[(names.index(state.sort) + 1) % len(names)]
        return replace(state, sort=sort, message=f"sorted by {sort}")
    if not rows:
        return state
    at = state.index(rows)
    if key == "r":
        return replace(state, asks=f"reload {rows[at].watcher}? y/n")
    return replace(state, chosen=rows[_moved(at, key, len(rows), height)].key)


def _in_text(state: TopState, key: Key | str, height: int) -> TopState:
    """Scroll the text; any other key closes it."""
    assert state.text is not None
    if key not in _STEPS and (not isinstance(key, Key) or key in (Key.ESCAPE, Key.ENTER)):
        return replace(state, text=None, title="", first=0)
    last = max(0, len(state.text) - height)
    return replace(state, first=_moved(min(state.first, last), key, last + 1, height))


def _moved(at: int, key: Key | str, count: int, height: int) -> int:
    """Return the position after a key, among `count`."""
    page = max(1, height - 1)
    jumps = {Key.PAGE_UP: at - page, Key.PAGE_DOWN: at + page, Key.HOME: 0, Key.END: count - 1}
    wanted = jumps[key] if isinstance(key, Key) and key in jumps else at + _STEPS.get(key, 0)
    return min(max(wanted, 0), count - 1)
