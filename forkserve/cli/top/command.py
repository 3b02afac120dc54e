"""Runs `top`: as a screen if the terminal can be drawn on, else as one page of text."""

from __future__ import annotations

import locale
import os
import select
import shutil
import signal
import sys
from pathlib import Path

from forkserve.cli.ending import say, tell
from forkserve.cli.top.page import page_lines
from forkserve.cli.top.source import TopSource

__all__ = ["run_top"]

_NO_SCREENS = ("", "dumb", "unknown")
"""Values of TERM for terminals without cursor control."""
SPAN = 1.0
"""Most seconds between the two reports of one page."""


def run_top(path: Path, *, sort: str = "name", interval: float = 2.0, once: bool = False) -> None:
    """Show the screen until a key ends it, or print one page; raises ControlError."""
    source = TopSource(path)
    source.poll()  # what is wrong with the master is said before the screen is cleared
    is_terminal = _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
    trouble = _trouble() if is_terminal and not once else ""
    if once or not is_terminal or trouble:
        if trouble:
            tell(f"forkservectl: {trouble}: one page, without keys\n")
        _print_page(source, sort, min(interval, SPAN))
        return
    _show(source, sort, interval)


def _is_terminal(stream: object) -> bool:
    try:
        return os.isatty(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # closed, or none at all
        return False


def _trouble() -> str:
    """Return why the terminal cannot be drawn on, or an empty text."""
    term = os.environ.get("TERM", "")
    if term in _NO_SCREENS:
        return f"a terminal of kind TERM={term} cannot be drawn on" if term else "TERM is not set"
    try:
        import curses

        curses.setupterm()
    except ImportError:
        return "this Python has no curses"
    except curses.error:
        return f"this kind of terminal is unknown (TERM={term})"
    return ""


def _print_page(source: TopSource, sort: str, span: float) -> None:
    select.select((), (), (), span)
    source.poll(pss=True)
    view = source.view(sort)
    assert view is not None
    columns = shutil.get_terminal_size((80, 24)).columns
    say("".join(f"{line.text}\n" for line in page_lines(view, columns)))


def _show(source: TopSource, sort: str, interval: float) -> None:
    import curses

    from forkserve.cli.top.screen import TopScreen

    with_text = locale.setlocale(locale.LC_CTYPE)
    # The terminal is restored at a stop signal as well.
    before = signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("ESCDELAY", "25")
    try:
        locale.setlocale(locale.LC_CTYPE, "")
        curses.wrapper(lambda window: TopScreen(window, source, sort=sort, interval=interval).run())
    finally:
        signal.signal(signal.SIGTERM, before)
        locale.setlocale(locale.LC_CTYPE, with_text)
