"""Draws `top` on a terminal, and takes keys: the thin code around `state` and `page`.

The size of the terminal is read at each drawing, so that it may change at any time; without colours states are shown by
their words alone.
"""

from __future__ import annotations

import contextlib
import curses
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from forkserve.cli.top.page import PageLine, header_lines, row_lines, wrapped
from forkserve.cli.top.rows import Row, View
from forkserve.cli.top.source import TopSource
from forkserve.cli.top.state import Key, TopState, Wish, pressed
from forkserve.errors import ControlError

__all__ = ["TopScreen"]

_KEYS = {
    curses.KEY_UP: Key.UP,
    curses.KEY_DOWN: Key.DOWN,
    curses.KEY_PPAGE: Key.PAGE_UP,
    curses.KEY_NPAGE: Key.PAGE_DOWN,
    curses.KEY_HOME: Key.HOME,
    curses.KEY_END: Key.END,
    curses.KEY_ENTER: Key.ENTER,
    10: Key.ENTER,
    13: Key.ENTER,
    27: Key.ESCAPE,
}
_COLOURS = {
    "ready": curses.COLOR_GREEN,
    "zygote": curses.COLOR_GREEN,
    "spawning": curses.COLOR_YELLOW,
    "draining": curses.COLOR_YELLOW,
    "killing": curses.COLOR_YELLOW,
    "backoff": curses.COLOR_YELLOW,
    "fatal": curses.COLOR_RED,
}
_HINT = "q quit  s sort  l logs  S stacks  r reload  h help"
_TEXT_HINT = "arrows, PgUp, PgDn move; any other key goes back"


class TopScreen:
    """One run of `top` in a window of curses."""

    def __init__(self, window: curses.window, source: TopSource, *, sort: str, interval: float) -> None:
        self._window = window
        self._source = source
        self._interval = interval
        self._state = TopState(sort=sort)
        self._view: View | None = None
        self._first = 0
        self._trouble = ""
        self._styles = _styles()
        with contextlib.suppress(curses.error):  # a terminal without one that can be hidden
            curses.curs_set(0)

    def run(self) -> None:
        """Show, until a key ends it."""
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                self._poll()
                due = time.monotonic() + self._interval
            self._draw()
            self._window.timeout(max(0, int(1000 * (due - time.monotonic()))))
            code = self._window.getch()
            if code in (-1, curses.KEY_RESIZE):
                continue
            key = _KEYS.get(code, chr(code) if 0 < code < 256 else "")
            rows = self._rows()
            self._state, wish = pressed(self._state, key, rows, self._room())
            if wish is Wish.LEAVE:
                return
            if wish is not Wish.NOTHING and rows:
                self._do(wish, rows[self._state.index(rows)])

    @property
    def _hint(self) -> str:
        return _HINT if self._state.text is None else _TEXT_HINT

    def _rows(self) -> tuple[Row, ...]:
        return () if self._view is None else self._view.rows

    def _poll(self) -> None:
        try:
            self._source.poll()
            self._trouble = ""
        except ControlError as error:
            self._trouble = str(error)

    def _do(self, wish: Wish, row: Row) -> None:
        self._say("asking ...")
        try:
            if wish is Wish.LOGS:
                lines = self._source.logs(row.target if row.pid is None or "[" in row.target else row.watcher)
                title = f"Last output of {row.target}"
                self._state = self._state.over(title, self._wrapped(lines) or ["(nothing yet)"], at_end=True)
            elif wish is Wish.STACKS:
                stacks = self._wrapped(self._source.stacks(row.target))
                self._state = self._state.over(f"Stacks of {row.target}", stacks)
            else:
                self._state = replace(self._state, message=f"{row.watcher}: reload {self._source.reload(row.watcher)}")
        except ControlError as error:
            self._state = replace(self._state, message=str(error))

    def _wrapped(self, lines: Sequence[str]) -> list[str]:
        return wrapped(lines, self._window.getmaxyx()[1])

    def _room(self) -> int:
        """Return how many lines there are for rows, or for the text over them."""
        height = self._window.getmaxyx()[0]
        return max(1, height - (2 if self._state.text is not None else 5))

    def _draw(self) -> None:
        width = self._window.getmaxyx()[1]
        self._window.erase()
        if self._state.text is not None:
            self._draw_text(width)
        else:
            self._view = self._source.view(self._state.sort)
            if self._view is not None:
                self._draw_rows(self._view, width)
        self._say(self._state.asks or self._state.message or self._trouble or self._hint)
        self._window.refresh()

    def _draw_rows(self, view: View, width: int) -> None:
        head = header_lines(view.summary, width)
        title, *lines = row_lines(view.rows, width)
        for number, line in enumerate((*head, title)):
            self._put(number, line.text, self._styles.get(line.style, 0))
        chosen = view.rows[self._state.index(view.rows)] if view.rows else None
        at = next((number for number, line in enumerate(lines) if line.row is chosen), 0)
        room = self._room()
        self._first = min(max(self._first, at - room + 1), at, max(0, len(lines) - room))
        for number, line in enumerate(lines[self._first : self._first + room]):
            self._put(len(head) + 1 + number, line.text, self._style(line, chosen))

    def _style(self, line: PageLine, chosen: Row | None) -> int:
        style = self._styles.get(line.style, 0)
        return style | curses.A_REVERSE if line.row is not None and line.row is chosen else style

    def _draw_text(self, width: int) -> None:
        assert self._state.text is not None
        self._put(0, self._state.title.ljust(width), self._styles["header"])
        room = self._room()
        first = min(self._state.first, max(0, len(self._state.text) - room))
        for number, text in enumerate(self._state.text[first : first + room]):
            self._put(1 + number, text, 0)

    def _say(self, text: str) -> None:
        height, width = self._window.getmaxyx()
        self._put(height - 1, text.replace("\n", " ").ljust(width), self._styles["header"])
        self._window.refresh()

    def _put(self, line: int, text: str, style: int) -> None:
        height, width = self._window.getmaxyx()
        if not 0 <= line < height:
            return
        known = text.encode(self._window.encoding, "replace").decode(self._window.encoding)
        # the last cell of the window is written, and then the cursor has nowhere to go
        with contextlib.suppress(curses.error):
            self._window.addnstr(line, 0, known, width, style)


def _styles() -> dict[str, int]:
    """Return the attributes by style; colours only if available and wanted (no-color.org)."""
    found = {"header": curses.A_REVERSE, "watcher": curses.A_BOLD}
    if os.environ.get("NO_COLOR") or not curses.has_colors():
        return found
    with contextlib.suppress(curses.error):
        curses.use_default_colors()
        for number, colour in enumerate(sorted(set(_COLOURS.values())), 1):
            curses.init_pair(number, colour, -1)
            found |= {style: curses.color_pair(number) for style, each in _COLOURS.items() if each == colour}
    return found
