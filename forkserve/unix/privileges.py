"""Users and groups: names to numbers before a process starts, and the change itself inside the child."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from forkserve.errors import ConfigError

__all__ = ["Credentials", "become", "group_id", "resolve", "user_id"]

_HIGHEST = 2**32 - 2
"""The highest uid_t and gid_t; the number after it means "no change" to chown(2) and setresuid(2)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user of a process; `uid` None keeps the user, `groups` None keeps the supplementary groups."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None


def resolve(user: str | None, group: str | None) -> Credentials | None:
    """Return the numbers for names or numbers; without a group, the user's own (Circus). None if nothing changes.

    Raises ConfigError for a name that this machine does not know.
    """
    if user is None:
        return None if group is None else Credentials(None, group_id(group), None)
    uid = user_id(user)
    try:
        entry = pwd.getpwuid(uid) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:  # a number needs no entry: containers run as users without an entry
        return Credentials(uid, uid if group is None else group_id(group), ())
    gid = entry.pw_gid if group is None else group_id(group)
    return Credentials(uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)))


def user_id(user: str) -> int:
    """Return the number of a user given by name or number; raises ConfigError."""
    if user.isdecimal():
        return _in_range(user, "user")
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigError(f"unknown user {user!r}") from None


def group_id(group: str) -> int:
    """Return the number of a group given by name or number; raises ConfigError."""
    if group.isdecimal():
        return _in_range(group, "group")
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"unknown group {group!r}") from None


def _in_range(number: str, kind: str) -> int:
    if int(number) > _HIGHEST:
        raise ConfigError(f"no {kind} has the number {number}: the highest is {_HIGHEST}")
    return int(number)


def become(credentials: Credentials) -> None:
    """Change groups, group and user, in the only order that works, and verify that there is no way back.

    Runs in the child. Raises OSError if the change is not allowed, or could be undone.
    """
    if credentials.groups is not None and os.geteuid() == 0:  # others may not, and keep the groups that they have
        os.setgroups(credentials.groups)
    if credentials.gid is not None:
        os.setgid(credentials.gid)
    if credentials.uid is None:
        return
    os.setuid(credentials.uid)
    if credentials.uid != 0 and _root_again():
        raise PermissionError("root could be regained after setuid")


def _root_again() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True
