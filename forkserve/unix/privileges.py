"""Users and groups: names to numbers before a process starts, and the change itself inside the child."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from forkserve.errors import ConfigError

__all__ = ["Credentials", "become", "resolve"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whom a process shall be; `uid` None keeps the user and changes the group alone."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None


def resolve(user: str | None, group: str | None) -> Credentials | None:
    """Return the numbers for names or numbers; without a group, the user's own (Circus). None when nothing changes.

    Raises ConfigError for a name that this machine does not know.
    """
    if user is None and group is None:
        return None
    gid = None if group is None else _group(group)
    if user is None:
        return Credentials(None, gid, None)
    entry = _user(user)
    if entry is None:
        uid = int(user)
        return Credentials(uid, uid if gid is None else gid, ())
    gid = entry.pw_gid if gid is None else gid
    return Credentials(entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)))


def _user(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if user.isdigit():  # a number needs no entry: containers run as uids that nobody named
            return None
        raise ConfigError(f"unknown user {user!r}") from None


def _group(group: str) -> int:
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"unknown group {group!r}") from None


def become(credentials: Credentials) -> None:
    """Change groups, group and user, in the only order that works, and prove that there is no way back.

    Runs in the child. Raises OSError when the change is not allowed, or could be undone.
    """
    if os.geteuid() == 0 and credentials.groups is not None:
        os.setgroups(credentials.groups)
    if credentials.gid is not None:
        os.setgid(credentials.gid)
    if credentials.uid is None:
        return
    os.setuid(credentials.uid)
    if credentials.uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise PermissionError("root could be regained after setuid")
