"""An order of the master to a zygote, and how the process forked for it becomes that worker.

Rules: an order is passed on unchanged, and parsed only by the process that it is for.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

__all__ = ["ForkOrder", "Parcel", "change_environment", "change_words", "place", "put_null", "receive"]

_MOST_DESCRIPTORS = 254
_OURS = ("FORKSERVE_", "NOTIFY_", "LISTEN_", "WATCHDOG_")
"""Prefixes of variables that a worker removes from its environment."""
# That of the standard library: gevent replaces it.
_close = os.close


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """What a worker is to be. `env` is its whole environment, `targets` the numbers of its descriptors, in their
    order.
    """

    number: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    sockets: tuple[str, ...]
    targets: tuple[int, ...]
    empty: tuple[int, ...]
    master: int
    death_signal: int | None
    descriptors: tuple[int, ...]

    @property
    def above(self) -> int:
        """A number above all descriptors of the worker."""
        return max((*self.targets, *self.empty), default=2) + 1


@dataclass(frozen=True, slots=True)
class Parcel:
    """An order in transit: its number, and the descriptors, the first of which is the memfd with the text."""

    number: int
    descriptors: tuple[int, ...]

    def send(self, to: socket.socket) -> None:
        """Pass it on; raises OSError."""
        socket.send_fds(to, [b"%d" % self.number], self.descriptors)

    def open(self) -> ForkOrder:
        """Parse it; its first descriptor is closed."""
        memory, *others = self.descriptors
        with open(memory, "rb") as file:
            said = json.load(file)
        return ForkOrder(
            self.number,
            tuple(said["argv"]),
            said["env"],
            tuple(said["sockets"]),
            tuple(said["targets"]),
            tuple(said["empty"]),
            said["master"],
            said["death_signal"],
            tuple(others),
        )

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.descriptors:
            _close(fd)


def receive(channel: socket.socket) -> Parcel | None:
    """Wait for an order; None if there will be no more."""
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, 64, _MOST_DESCRIPTORS)
    except ConnectionError:
        return None
    return Parcel(int(data), tuple(descriptors)) if data else None


def place(order: ForkOrder) -> None:
    """Move each descriptor to its number, without touching what the application has opened; raises OSError."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    wanted = {**dict(zip(order.targets, order.descriptors, strict=True)), **dict.fromkeys(order.empty, null)}
    copies = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, order.above) for target, fd in wanted.items()}
    for fd in (*order.descriptors, null):
        _close(fd)
    for target, fd in copies.items():
        os.dup2(fd, target, inheritable=True)
        _close(fd)


def put_null(numbers: Collection[int]) -> None:
    """Open /dev/null at these descriptors; raises OSError."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in numbers:
        if number != null:
            os.dup2(null, number, inheritable=False)
    if null not in numbers:
        _close(null)


def change_environment(environ: MutableMapping[str, str], order: ForkOrder, given: Mapping[str, str]) -> dict[str, str]:
    """Change what differs from the zygote's environment, `given`, and keep what the application has set.

    Returns the new `given`.
    """
    env = dict(order.env)
    if order.sockets:
        env["LISTEN_FDS"] = str(len(order.sockets))
        env["LISTEN_FDNAMES"] = ":".join(order.sockets)
        env["LISTEN_PID"] = str(os.getpid())
    if "WATCHDOG_USEC" in env:
        env["WATCHDOG_PID"] = str(os.getpid())
    for name in given.keys() - env.keys():
        environ.pop(name, None)
    for name, value in env.items():
        if given.get(name) != value or name.startswith(_OURS):
            environ[name] = value
    return env


def change_words(argv: Sequence[str]) -> None:
    """Set the arguments to those of the worker: a placeholder may stand for its number."""
    count = len(sys.argv) - 1
    sys.argv[1:] = argv[len(argv) - count :]
    sys.orig_argv[len(sys.orig_argv) - count :] = sys.argv[1:]
