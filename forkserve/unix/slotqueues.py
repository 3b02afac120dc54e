"""One TCP port with a queue for each slot: sockets of one SO_REUSEPORT group, and which of them get connections.

Theory of operation. All sockets that are bound to one address with SO_REUSEPORT are a group, and the kernel puts each
new connection into the queue of one of them (socket(7)). By default it chooses by a hash of the client's address, even
a queue that nothing reads from. So a classic BPF program (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5) chooses at random among
those that have a reader. It identifies sockets by their position in the group: in the order in which they began to
listen, where the last takes the position of one that is closed (reuseport_detach_sock in net/core/sock_reuseport.c).

Slot 1 has the socket that the port was bound with first. While no slot has a reader, connections wait there.

Rules: positions are known only if all sockets of the group are ours. If another program listens at the address with
SO_REUSEPORT already, or the kernel refuses the program, all slots share one queue, as without.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["FIRST", "SlotQueues", "can_have_slots"]

log = logging.getLogger("forkserve.socketpool")

FIRST = 1
"""The slot with the socket that the port was bound with first."""

_SO_ATTACH_REUSEPORT_CBPF, _SO_DETACH_REUSEPORT_BPF = 51, 68
"""asm-generic/socket.h; the module `socket` does not name them."""
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF038)
"""BPF_LD, the word at SKF_AD_OFF + SKF_AD_RANDOM (linux/filter.h)."""
_MODULO, _EQUAL, _RETURN = 0x94, 0x15, 0x06
_MOST = 1000
"""Slots that a program can choose from: two instructions for each, of 4096 (BPF_MAXINSNS)."""
_LISTEN = "0A"


def can_have_slots(sock: socket.socket) -> bool:
    """Tell whether a socket is of a kind that each slot can have its own of."""
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type is socket.SOCK_STREAM


@dataclass(slots=True)
class SlotQueues:
    """The sockets of all slots except the first, by number; the rest is plain data.

    `order` are the slots in the order of their sockets in the kernel's group, `dealt` those that get connections now.
    `shared` means that all slots share the first socket, whatever was requested; None until that was tried. `beside`
    are the processes that were started for what waits in the queue of a removed slot: the watcher's name, and the
    number; `tries` counts them by slot.
    """

    sockets: dict[int, socket.socket] = field(default_factory=dict)
    order: list[int] = field(default_factory=lambda: [FIRST])
    dealt: tuple[int, ...] = ()
    shared: bool | None = None
    beside: dict[int, tuple[str, int]] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)

    def add(self, wid: int, first: socket.socket, make: Callable[[], socket.socket]) -> socket.socket:
        """Return the socket of a slot, which is created if it is new; raises OSError.

        A new one gets no connections until `deal` names it.
        """
        if wid == FIRST or len(self.order) >= _MOST:
            return first
        if wid in self.sockets:
            return self.sockets[wid]
        self.sockets[wid] = made = make()
        self.order.append(wid)
        self.deal(first, self.dealt, again=True)
        return made

    def can_begin(self, first: socket.socket) -> bool:
        """Tell whether the group is ours alone and accepts a program, which is tried once; logs it if not."""
        if self.shared is None:
            reason = self._hindrance(first)
            self.shared = bool(reason)
            if reason:
                log.warning("%s: so_reuseport: all slots share one queue: %s", _name(first), reason)
        return not self.shared

    def _hindrance(self, first: socket.socket) -> str:
        try:
            if _listening_at(first) > 1:
                return "another socket listens at its port"
            _attach(first, [0])
        except OSError as error:
            # It is of no group yet where SO_REUSEPORT was set after bind(2), and is once there is a second.
            return "" if error.errno == errno.EINVAL else error.strerror or str(error)
        return ""

    def deal(self, first: socket.socket, wids: Collection[int], *, again: bool = False) -> None:
        """Send new connections to the queues of these slots; if there are none, to that of the first."""
        wanted = tuple(sorted(set(wids) & set(self.order)))
        if not self.sockets or (wanted == self.dealt and not again):
            return
        self.dealt = wanted
        with contextlib.suppress(OSError):
            _attach(first, [self.order.index(wid) for wid in wanted] or [0])

    def drop(self, wid: int, first: socket.socket) -> None:
        """Close the socket of a slot, from which nothing reads; what waits in it is reset."""
        place = self.order.index(wid)
        last = self.order[-1]
        staying = [each for each in self.dealt if each != wid]
        # While the last one moves, it gets nothing.
        self.deal(first, [each for each in staying if each != last])
        self.sockets.pop(wid).close()
        self.forget_beside(wid)
        self.order[place] = last
        self.order.pop()
        self.deal(first, staying, again=True)

    def forget_beside(self, wid: int) -> None:
        """Note that the queue of a slot needs no process beside the slots."""
        self.beside.pop(wid, None)
        self.tries.pop(wid, None)

    def release(self, first: socket.socket) -> None:
        """Let the kernel choose by itself, since another socket joins the group."""
        if self.sockets:
            with contextlib.suppress(OSError):
                first.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)

    def close(self) -> None:
        """Close all sockets but the first, which is the caller's."""
        for each in self.sockets.values():
            each.close()
        self.sockets.clear()
        self.beside.clear()
        self.tries.clear()
        self.order, self.dealt = [FIRST], ()


def _attach(sock: socket.socket, places: Sequence[int]) -> None:
    """Let the kernel choose among these positions of the group; raises OSError."""
    program = [_LOAD_RANDOM, (_MODULO, 0, 0, len(places))]
    for number, place in enumerate(places[:-1]):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, place)]
    program.append((_RETURN, 0, 0, places[-1]))
    memory = array.array("B", b"".join(struct.pack("=HBBI", *each) for each in program))
    described = struct.pack("@HP", len(program), memory.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, described)


def _listening_at(sock: socket.socket) -> int:
    """Return how many sockets listen at the port of this one, whatever their address (proc_net(5)); raises OSError."""
    port = f":{sock.getsockname()[1]:04X}"
    return sum(_count(family, port) for family in ("tcp", "tcp6"))


def _count(family: str, port: str) -> int:
    try:
        with open(f"/proc/self/net/{family}") as file:
            next(file)
            return _leading(file, port)
    except FileNotFoundError:  # no IPv6, or no /proc
        return 0


def _leading(lines: Iterable[str], port: str) -> int:
    """Count among those that listen, which come first."""
    count = 0
    for line in lines:
        words = line.split(maxsplit=4)
        if words[3] != _LISTEN:
            break
        count += words[1].endswith(port)
    return count


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"
