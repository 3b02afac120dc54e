"""Sections of other programs in a configuration file: what to write instead.

Rules: pure. Nothing of such a section is used: what looks the same has another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FOREIGN", "ForeignSection"]


@dataclass(frozen=True, slots=True)
class ForeignSection:
    """A kind of section; one that `runs` something leaves nothing to run if there is no watcher beside it."""

    advice: str
    runs: bool = False


_MASTER = "this is a section of supervisord; the options of the master are in [circus] here"
_CONTROL = "this is a section of supervisord; the control socket is `control` in [circus] here"
_IMPORT = "; `forkserve import FILE -o forkserve.toml` writes it so"
_PASTE = "this is a section of PasteDeploy; give its file to --paste"

FOREIGN: Mapping[str, ForeignSection] = {
    "program": ForeignSection(
        f"this is a section of supervisord; here it is [watcher:NAME], with cmd in place of command{_IMPORT}", runs=True
    ),
    "fcgi-program": ForeignSection(
        "this is a section of supervisord; here it is [watcher:NAME], with cmd in place of command, beside"
        f" [socket:NAME] in place of socket; FastCGI is the program's affair{_IMPORT}",
        runs=True,
    ),
    "eventlistener": ForeignSection(
        "this is a section of supervisord; here `forkservectl events` tells what happens, as lines of JSON with --json",
        runs=True,
    ),
    "group": ForeignSection(
        "this is a section of supervisord; here each watcher says `group = NAME`, and verbs take NAME:*"
    ),
    "components": ForeignSection("Circus does not read it either, ignored"),
    "supervisord": ForeignSection(_MASTER),
    "unix_http_server": ForeignSection(_CONTROL),
    "inet_http_server": ForeignSection(_CONTROL),
    "supervisorctl": ForeignSection(_CONTROL),
    "rpcinterface": ForeignSection(_CONTROL),
    "uwsgi": ForeignSection(
        "this is a section of uWSGI; here it is [watcher:NAME], with"
        f" cmd = forkserve-worker --fd $(circus.sockets.web) MODULE:APP, beside [socket:web]{_IMPORT}",
        runs=True,
    ),
    "app": ForeignSection(_PASTE, runs=True),
    "server": ForeignSection(_PASTE, runs=True),
    "composite": ForeignSection(_PASTE, runs=True),
    "pipeline": ForeignSection(_PASTE, runs=True),
}
"""By the kind of a section, the part of its title before the colon."""
