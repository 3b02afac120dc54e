"""What `ps` shows for our processes."""

from __future__ import annotations

from setproctitle import getproctitle, setproctitle

__all__ = ["prepare_title", "set_title"]


def prepare_title() -> None:
    """Find the memory of the command line; to be called before the environment is changed.

    setproctitle looks for it from the first variable, at its first call. Once that has been set again, as we do with
    PWD, it finds nothing, and every title is lost in silence.
    """
    getproctitle()


def set_title(title: str) -> None:
    """Show this process as `title`, e.g. `forkserve: master [circus.ini]`."""
    setproctitle(title)
