"""Descriptors that a process leaves with the master for its successor: FDSTORE=1 of sd_notify(3).

Theory of operation. Each slot has a store of at most `fdstore_max` descriptors, each with a name (FDNAME=, else
`stored`). The next process of the slot gets a copy of all of them after its sockets, by LISTEN_FDS and LISTEN_FDNAMES.
Descriptors whose other end was closed (POLLHUP, POLLERR) are dropped when they would be passed on. A restart and a
reload keep the store; a stop, and the end of the slot, close it.

Rules: state is plain data: names and numbers of descriptors.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["FdStore", "StoredFd"]

_LONGEST = 255
"""Most characters of a name (sd_pid_notify_with_fds(3))."""


@dataclass(frozen=True, slots=True)
class StoredFd:
    """A descriptor of the master's, kept under a name."""

    name: str
    fd: int


@dataclass(slots=True)
class FdStore:
    """What the processes of one watcher have stored, by the number of their slot."""

    kept: dict[int, list[StoredFd]] = field(default_factory=dict)

    def take(self, wid: int, fields: Mapping[str, str], fds: list[int], limit: int) -> str:
        """Do what a message asks; kept descriptors are removed from `fds`. Returns why not, or ""."""
        name = fields.get("FDNAME", "")
        if fields.get("FDSTOREREMOVE") == "1":
            self._remove(wid, name)
        if fields.get("FDSTORE") != "1":
            return ""
        if name and not _is_name(name):
            return f"FDNAME={name[:40]!r} is no name of a descriptor"
        while fds:
            if len(self.kept.get(wid, ())) >= limit:
                return f"stores more descriptors than it may (fdstore_max = {limit})"
            self.kept.setdefault(wid, []).append(StoredFd(name or "stored", fds.pop(0)))
        return ""

    def handed_out(self, wid: int) -> tuple[StoredFd, ...]:
        """Return what the next process of a slot gets; dead descriptors are closed before."""
        kept = self.kept.get(wid, [])
        poller = select.poll()
        for each in kept:
            poller.register(each.fd, 0)
        dead = {fd for fd, _ in poller.poll(0)}
        self.kept[wid] = [each for each in kept if each.fd not in dead]
        _close(each for each in kept if each.fd in dead)
        return tuple(self.kept[wid])

    def close(self, wids: Iterable[int] | None = None) -> None:
        """Close what some slots have stored, by default everything."""
        for wid in tuple(self.kept) if wids is None else tuple(wids):
            _close(self.kept.pop(wid, ()))

    def _remove(self, wid: int, name: str) -> None:
        kept = self.kept.get(wid, [])
        self.kept[wid] = [each for each in kept if each.name != name]
        _close(each for each in kept if each.name == name)


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST and text.isascii() and text.isprintable() and ":" not in text


def _close(stored: Iterable[StoredFd]) -> None:
    for each in stored:
        with contextlib.suppress(OSError):
            os.close(each.fd)
