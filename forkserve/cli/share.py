"""The files of an installation below `share`: the manual pages, and completion where each shell looks for it.

The wheel contains these, so that `man forkserve` and completion work after `pip install`, if PREFIX/bin is on PATH.
"""

from __future__ import annotations

from pathlib import Path

from forkserve.cli.completion import SCRIPTS
from forkserve.cli.manpages import write_pages

__all__ = ["write_share"]

_COMPLETIONS = {
    "bash": "bash-completion/completions/forkservectl",
    "zsh": "zsh/site-functions/_forkservectl",
    "fish": "fish/vendor_completions.d/forkservectl.fish",
}


def write_share(folder: Path) -> None:
    """Write the files below a folder; raises ForkserveError and OSError."""
    write_pages(folder / "man" / "man1")
    for shell, name in _COMPLETIONS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPTS[shell], encoding="utf-8")
