"""What `ps` shows for our processes."""

from __future__ import annotations

from setproctitle import setproctitle

__all__ = ["set_title"]


def set_title(title: str) -> None:
    """Show this process as `title`, e.g. `forkserve: master [circus.ini]`."""
    setproctitle(title)
