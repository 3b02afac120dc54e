"""The store of systemd in which the master's own sockets outlive it: FDSTORE=1 of sd_notify(3), and LISTEN_FDS back.

Theory of operation. Each socket that we have bound is sent to systemd, which keeps a descriptor of it, and so its
queue, until the service stops for good. The next master finds it in LISTEN_FDS, under `forkserve@NAME`, or
`forkserve@NAME@DEVICE.INODE` for the file of a Unix socket, since a path alone does not identify the file. The prefix
distinguishes it from the socket of a `.socket` unit, which is used wherever it listens: one of ours is used only where
the configuration says that a socket listens, and closed otherwise.

systemd does not confirm that a descriptor was kept. The store is relied on if `$FDSTORE` (systemd 254) gives its size,
or if it has returned the socket once. Only such a socket is left open by a stop.

Rules: queues are known by their numbers; `stored` and `sure` are plain data. systemd drops listening sockets once they
are shut down (EPOLLHUP), as it should; FDPOLL=0 exempts the others, whose errors are those of a client.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from socket import AddressFamily, SocketKind
from urllib.parse import quote

from forkserve.config.sockets import SocketOptions
from forkserve.errors import BindError
from forkserve.unix.listeners import BindTarget, BoundListener, resolve
from forkserve.unix.notify import notify
from forkserve.unix.slotqueues import FIRST, SlotQueues
from forkserve.unix.socketfiles import SocketFile

__all__ = ["SocketStore", "StoredSocket", "is_stored_name", "reclaim"]

log = logging.getLogger("forkserve.master")

_NAME = re.compile(
    r"forkserve@(?P<name>[^@]+)"
    r"(?:@slot(?P<slot>\d+)\.(?P<place>\d+)|@(?P<device>\d+)\.(?P<inode>\d+)(?:-\d+)?)?"
)
"""Our names; `take_listen_fds` appends a number to a repeated one."""
_LONGEST = 255
"""Most characters of a name (sd_pid_notify_with_fds(3))."""


@dataclass(frozen=True, slots=True)
class StoredSocket:
    """A socket that systemd has returned: the name it was stored under, and its kind."""

    name: str
    listener: BoundListener
    slots: Mapping[int, str] = field(default_factory=dict)
    """The names of the sockets of slots, with `so_reuseport`."""


@dataclass(slots=True)
class SocketStore:
    """What systemd keeps of our queues, by number: their names there, and those that it certainly keeps."""

    environ: MutableMapping[str, str] = field(default_factory=dict)
    stored: dict[int, str] = field(default_factory=dict)
    sure: set[int] = field(default_factory=set)
    slots: dict[int, dict[int, str]] = field(default_factory=dict)
    """The names of the sockets of slots but the first, by queue and slot."""

    @property
    def room(self) -> int | None:
        """Number of descriptors that systemd keeps for this service; None if unknown."""
        text = self.environ.get("FDSTORE", "")
        return int(text) if text.isdecimal() else None

    def keeps(self, number: int) -> bool:
        """Tell whether a queue outlives this process."""
        return number in self.sure

    def note(self, number: int, found: StoredSocket) -> None:
        """Note that systemd has passed a queue that it still keeps."""
        self.stored[number] = found.name
        self.sure.add(number)
        self.slots[number] = dict(found.slots)

    def update(self, queues: Mapping[int, BoundListener], *, patience: float = 0.0) -> None:
        """Let systemd keep exactly these queues, if they are ours and open.

        Waits `patience` seconds for room to send; what could not be sent is tried again with the next change.
        """
        if not self.environ.get("NOTIFY_SOCKET"):
            return
        wanted = {number: name for number, each in queues.items() if (name := _stored_name(each))}
        for number, name in tuple(self.stored.items()):
            if wanted.get(number) != name:
                self._forget(number)
        for number, name in wanted.items():
            listener = queues[number]
            if number not in self.stored and self._keep(name, listener, listener.fd, patience):
                self.stored[number] = name
                if self.room is not None:
                    self.sure.add(number)
            if number in self.stored:
                self._update_slots(number, listener, patience)

    def _update_slots(self, number: int, listener: BoundListener, patience: float) -> None:
        """Let systemd keep the sockets of all slots, by their places among those at the address."""
        slots, known = listener.slots, self.slots.setdefault(number, {})
        wanted = {wid: f"{self.stored[number]}@slot{wid}.{slots.order.index(wid)}" for wid in slots.sockets}
        for wid, name in tuple(known.items()):
            if wanted.get(wid) != name:
                self.forget_name(known.pop(wid))
        for wid in wanted.keys() - known.keys():
            if self._keep(wanted[wid], listener, slots.sockets[wid].fileno(), patience):
                known[wid] = wanted[wid]

    def forget_name(self, name: str) -> None:
        """Let systemd close what it keeps under a name."""
        notify(f"FDSTOREREMOVE=1\nFDNAME={name}", self.environ)

    def _forget(self, number: int) -> None:
        self.forget_name(self.stored.pop(number))
        self.sure.discard(number)
        for name in self.slots.pop(number, {}).values():
            self.forget_name(name)

    def _keep(self, name: str, listener: BoundListener, fd: int, patience: float) -> bool:
        """Send systemd a descriptor to keep; False if it was not sent."""
        room = self.room
        if room is not None and len(self.stored) + sum(map(len, self.slots.values())) >= room:
            if room > 0:
                log.warning(
                    "socket %s: systemd keeps no more than %d (FileDescriptorStoreMax=); a restart closes this one",
                    listener.name,
                    room,
                )
            return False
        watched = "" if listener.socket.type in (SocketKind.SOCK_STREAM, SocketKind.SOCK_SEQPACKET) else "\nFDPOLL=0"
        text = f"FDSTORE=1\nFDNAME={name}{watched}"
        return notify(text, self.environ, patience=patience, fds=(fd,))


def is_stored_name(name: str) -> bool:
    """Tell whether a name of LISTEN_FDNAMES is one of ours."""
    return _NAME.fullmatch(name) is not None


def reclaim(sockets: Sequence[SocketOptions], handed_in: Mapping[str, int], store: SocketStore) -> list[StoredSocket]:
    """Return the stored sockets for which the configuration has a place, with its options; the others are closed.

    `handed_in` are descriptors by names that satisfy `is_stored_name`.
    """
    found: list[StoredSocket] = []
    left = {name: sock for name, fd in handed_in.items() if (sock := _socket_of(fd)) is not None}
    of_slots = {name: left.pop(name) for name in tuple(left) if _place_of(name)}
    for options in sockets if left else ():
        target = _target_of(options)
        tried = ((name, _as(options, target, left[name], name)) for name in _own_first(options, left))
        name, listener = next((each for each in tried if each[1] is not None), ("", None))
        if listener is not None:
            mine = [each for each in of_slots if each.startswith(f"{name}@slot")] if options.so_reuseport else []
            found.append(_with_slots(name, listener, {each: of_slots[each] for each in mine}))
            for each in found[-1].slots.values():
                del of_slots[each]
            del left[name]
    for name, sock in (*left.items(), *of_slots.items()):
        _drop(name, sock, store)
    return found


def _place_of(name: str) -> tuple[int, int] | None:
    """Return the slot that a stored name is that of, and its place among those at the address."""
    matched = _NAME.fullmatch(name)
    assert matched is not None
    return None if matched["slot"] is None else (int(matched["slot"]), int(matched["place"]))


def _with_slots(name: str, listener: BoundListener, others: Mapping[str, socket.socket]) -> StoredSocket:
    """Return a stored socket with those of its slots; without them if one is missing, since places differ then."""
    places = sorted((place, wid, each) for each in others if (found := _place_of(each)) for wid, place in (found,))
    if [place for place, _, _ in places] != list(range(1, len(places) + 1)):
        return StoredSocket(name, listener)
    sockets = {wid: others[each] for _, wid, each in places}
    slots = SlotQueues(sockets, [FIRST, *(wid for _, wid, _ in places)], shared=False if sockets else None)
    return StoredSocket(name, replace(listener, slots=slots), {wid: each for _, wid, each in places})


def _drop(name: str, sock: socket.socket, store: SocketStore) -> None:
    log.info("descriptor %s of LISTEN_FDS was stored for a socket that the configuration no longer has: closed", name)
    with contextlib.suppress(OSError):
        file, path = _file_of(name), sock.getsockname()
        if file is not None and isinstance(path, str):
            SocketFile(path, *file).remove()
    sock.close()
    store.forget_name(name)


def _stored_name(listener: BoundListener) -> str:
    """Return the name under which a listener is stored, or "" for one that is not ours to store."""
    is_abstract = listener.options.path is not None and listener.options.fd is None
    if not listener.is_open or not (listener.is_ours or is_abstract):
        return ""
    name = f"forkserve@{quote(listener.name.lower(), safe='')}"
    if listener.file is not None:
        name += f"@{listener.file.device}.{listener.file.inode}"
    return name if len(name) <= _LONGEST else ""


def _socket_of(fd: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None


def _own_first(options: SocketOptions, names: Iterable[str]) -> list[str]:
    """Return the names to be tried for a socket; a port chosen by the kernel belongs to one name alone."""
    own = quote(options.name.lower(), safe="")
    mine = [name for name in names if name.split("@")[1] == own]
    return (
        mine if options.path is None and options.port == 0 else [*mine, *(each for each in names if each not in mine)]
    )


def _target_of(options: SocketOptions) -> BindTarget | None:
    if options.fd is not None:
        return None
    with contextlib.suppress(BindError):  # who binds it says so
        return resolve(options)
    return None


def _file_of(name: str) -> tuple[int, int] | None:
    matched = _NAME.fullmatch(name)
    assert matched is not None
    return None if matched["inode"] is None else (int(matched["device"]), int(matched["inode"]))


def _as(options: SocketOptions, target: BindTarget | None, sock: socket.socket, name: str) -> BoundListener | None:
    """Return a stored socket as the listener that the options describe, or None if it does not match."""
    if target is None or sock.type != options.type:
        return None
    file = _file_of(name)
    if options.path is not None and not options.path.startswith("@"):
        made = None if file is None else SocketFile(options.path, *file)
        is_it = sock.family is AddressFamily.AF_UNIX and made is not None and made.is_there
        return BoundListener(options, sock, target, made) if is_it else None
    if options.path is not None:
        is_it = sock.family is AddressFamily.AF_UNIX and sock.getsockname() == b"\0" + os.fsencode(options.path[1:])
        return BoundListener(options, sock, target) if is_it else None
    v6only = sock.family is AddressFamily.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return BoundListener(options, sock, target, v6only=v6only) if _is_at(options, target, sock) else None


def _is_at(options: SocketOptions, target: BindTarget, sock: socket.socket) -> bool:
    if sock.family != target.family or target.address is None or target.proto not in (0, sock.proto):
        return False
    wanted, bound = target.address, sock.getsockname()
    interface = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0").decode()
    is_same_port = bound[1] == wanted[1] if wanted[1] else bound[1] != 0
    return bool(bound[0] == wanted[0] and is_same_port and interface == (options.interface or ""))
