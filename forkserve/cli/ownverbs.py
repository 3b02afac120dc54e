"""The verbs that only forkservectl has: they combine others, or need no master.

Rules: declared like those of the control interface, so that parser, completion and man page have them, too.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from forkserve.control.schema.requests import Selected
from forkserve.control.verbs import VERBS, Verb

__all__ = ["ALL_VERBS", "OWN_VERBS"]


class CompletedShell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shell that a script is for."""

    shell: Annotated[Literal["bash", "zsh", "fish"], msgspec.Meta(description="the shell that the script is for")]


class Analyzed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which deploy, or the start instead."""

    watcher: Annotated[
        str | None, msgspec.Meta(description="name of a watcher; the one whose deploy was last if left out")
    ] = None
    start: Annotated[bool, msgspec.Meta(description="analyze the start, not the last deploy")] = False


OWN_VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "tree",
            "Show the process tree, with all descendants.",
            Selected,
            reads=True,
            words=("watcher",),
        ),
        Verb(
            "analyze",
            "Show what the last deploy, or the start, spent its time on.",
            Analyzed,
            reads=True,
            words=("watcher",),
        ),
        Verb("shell", "Start a shell with completion and history, as without a verb.", reads=True),
        Verb(
            "completion",
            "Print the completion script for bash, zsh or fish.",
            CompletedShell,
            reads=True,
            words=("shell",),
        ),
    )
}
ALL_VERBS: dict[str, Verb] = {**VERBS, **OWN_VERBS}
"""Every verb that can be typed, by its name."""
