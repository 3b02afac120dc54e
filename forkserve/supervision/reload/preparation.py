"""Reads a configuration and looks up every name in it: users, groups, hosts. It may block, so it runs in a fork.

Rules: it returns plain data that a helper can send; it raises a ForkserveError for the user. It changes nothing. The
master binds, which needs no look-up any more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from forkserve.config.load import ConfigSource
from forkserve.config.model import Config
from forkserve.supervision.spawning.command import credentials_of
from forkserve.unix.home import enter
from forkserve.unix.listeners import BindTarget, resolve
from forkserve.unix.privileges import Credentials

__all__ = ["Preparation", "prepare_config"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """A configuration that can be applied: nothing in it needs a look-up any more. By lower-case names."""

    config: Config
    credentials: Mapping[str, Credentials | None]
    targets: Mapping[str, BindTarget]


def prepare_config(source: ConfigSource) -> Preparation:
    """Read the source and look up its names; raises ConfigErrors, ConfigError or BindError."""
    enter(os.environ)
    config = source.read()
    return Preparation(
        config,
        {each.name.lower(): credentials_of(each) for each in config.watchers},
        {each.name.lower(): resolve(each) for each in config.sockets},
    )
