"""The named sockets: bound once by the master, passed to any command, held until the very end.

A connection that the kernel has queued outlives every reader, since the queue belongs to the master. `open` binds all
sockets or none. Each queue has a number, never used twice; names lead to numbers, and a command keeps the numbers that
it was made with. So a command from before a reload finds the former queue, under whatever name.

A reload is `prepare`, which binds what is new beside the existing sockets, then `commit`, which swaps the names, or
`abandon`. After `commit` the queues without a name are *retired*: still open and still ours, so that `take_back`, or a
later reload, gives them their names again. `seal` lets them run empty, `discard` closes them. New sockets are hidden
from clients until `show`, so that no client is in a queue that is taken back.

With `so_reuseport` a queue has a socket for each slot (`unix.slotqueues`), but is otherwise one queue.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from forkserve.config.model import SocketOptions
from forkserve.config.options import differing
from forkserve.config.places import is_beside, is_ipv6_only, kept_sockets
from forkserve.errors import BindError
from forkserve.unix.listeners import BindTarget, BoundListener, adopt, bind
from forkserve.unix.notify import READY_PATIENCE
from forkserve.unix.socketstore import SocketStore, StoredSocket, is_stored_name, reclaim

__all__ = ["SocketChange", "SocketPool"]

log = logging.getLogger(__name__)

Names = Mapping[str, int]
"""Numbers of queues by lower-case name, in the order of the configuration."""


@dataclass(frozen=True, slots=True)
class SocketChange:
    """New sockets, bound and waiting beside the old; exactly one of `commit` and `abandon` ends it. Plain data."""

    before: Names
    after: Names
    opened: frozenset[int]
    """Queues that were bound for it."""
    options_before: Mapping[int, SocketOptions] = field(default_factory=dict)
    options_after: Mapping[int, SocketOptions] = field(default_factory=dict)

    @property
    def rebound(self) -> frozenset[str]:
        """Names, in lower case, that lead to another queue than before: their readers must be replaced."""
        return frozenset(name for name, number in self.after.items() if self.before.get(name) != number)

    @property
    def retired(self) -> frozenset[int]:
        """Queues that no longer have a name."""
        return frozenset(self.before.values()) - frozenset(self.after.values())

    @property
    def adjusted(self) -> dict[str, tuple[str, ...]]:
        """Return, by lower-case name, the changed options of the sockets that keep their queue."""
        pairs = {
            name: (self.options_before[number], self.options_after[number])
            for name, number in self.after.items()
            if number in self.options_before and number in self.options_after
        }
        found = {name: differing(before, after) for name, (before, after) in pairs.items()}
        return {name: options for name, options in found.items() if options}


_NAMED_BY_NOBODY = re.compile(r"(unknown|.*\.socket)(-\d+)?")
"""sd_listen_fds_with_names(3), FileDescriptorName= of systemd.socket(5); a number distinguishes those with the
same name.
"""


class SocketPool:
    """Listeners by name; names are case-insensitive, as in Circus."""

    def __init__(self, listeners: Iterable[BoundListener]) -> None:
        self.queues = dict(enumerate(listeners, 1))
        self.last = len(self.queues)
        self.numbers: Names = {listener.name.lower(): number for number, listener in self.queues.items()}
        self.hidden: set[int] = set()
        self.store = SocketStore()

    @classmethod
    def open(
        cls,
        sockets: Sequence[SocketOptions],
        handed_in: Mapping[str, int] | None = None,
        store: SocketStore | None = None,
    ) -> SocketPool:
        """Open all sockets, or none; raises BindError.

        `handed_in` are descriptors of LISTEN_FDS by name: a socket takes the one of its name, and no other. Unnamed
        ones, with the name `unknown` or systemd's default, `UNIT.socket`, go in order to the sockets that found none.
        """
        _refuse_same_names(sockets)
        handed_in, store = handed_in or {}, store or SocketStore()
        of_units = {name: fd for name, fd in handed_in.items() if not is_stored_name(name)}
        inherited, left_over = _match(sockets, of_units)
        for name, fd in left_over.items():
            log.warning("descriptor %d (%s) of LISTEN_FDS matches no socket of the configuration", fd, name)
        own = {name: fd for name, fd in handed_in.items() if name not in of_units}
        free = [options for options in sockets if options.name not in inherited]
        stored = {each.listener.name: each for each in reclaim(free, own, store)}
        pool = cls(_open(sockets, _Surroundings(sockets, inherited=inherited, stored=stored)))
        pool._go_on_storing(store, stored)
        return pool

    def _go_on_storing(self, store: SocketStore, stored: Mapping[str, StoredSocket]) -> None:
        self.store = store
        for number, listener in self.queues.items():
            if listener.name in stored:
                store.note(number, stored[listener.name])
                self._adjust(number)
                log.info("socket %s: systemd has kept it, and what waits in its queue", listener.name)
        self.update_store(patience=READY_PATIENCE)

    def __iter__(self) -> Iterator[BoundListener]:
        """Iterate over the current listeners, in the order of the configuration."""
        return iter(tuple(self.queues[number] for number in self.numbers.values()))

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.numbers

    def __getitem__(self, name: str) -> BoundListener:
        return self.queues[self.numbers[name.lower()]]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the configuration."""
        return tuple(listener.name for listener in self)

    @property
    def retired(self) -> frozenset[int]:
        """Open queues without a name."""
        return frozenset(self.queues) - frozenset(self.numbers.values())

    def listener(self, number: int) -> BoundListener:
        """Return the listener of a queue; raises KeyError once it was discarded."""
        return self.queues[number]

    def fd(self, number: int, wid: int = 1) -> int:
        """Return the descriptor of a queue, which is bound again if it was let go; raises BindError.

        If each slot has its own, it is that of slot `wid`.
        """
        listener = self.queues.get(number)
        if listener is None:
            raise BindError(f"the socket that was queue {number} is closed")
        if not listener.is_open:
            listener = bind(listener.options, listener.target, v6only=listener.v6only)
            self.queues[number] = listener
            self.update_store()
        before = len(listener.slots.sockets)
        fd = listener.fd_of(wid)
        if len(listener.slots.sockets) != before:
            self.update_store()
        return fd

    def has_slots(self, numbers: Iterable[int]) -> bool:
        """Tell whether each slot has its own of all these queues, and there is at least one; raises BindError."""
        numbers = tuple(numbers)
        for number in numbers:
            self.fd(number)
        return bool(numbers) and all(self.queues[number].has_slots for number in numbers)

    def fds(self, names: Iterable[str]) -> dict[str, int]:
        """Return descriptors by name, in the given order; raises KeyError for an unknown name."""
        return {name: self.fd(self.numbers[name.lower()]) for name in names}

    def release(self, number: int) -> None:
        """Close a queue until `fd` asks for it again, at the same address."""
        listener = self.queues[number]
        if listener.is_open and listener.target.address is not None:
            target = replace(listener.target, address=listener.socket.getsockname())
            self.queues[number] = replace(listener, target=target)
        listener.close()
        self.update_store()

    # A change of the configuration.

    def prepare(self, sockets: Sequence[SocketOptions], targets: Mapping[str, BindTarget]) -> SocketChange:
        """Bind what a new configuration adds or changes, and touch nothing that serves; raises BindError.

        `targets` are the resolved addresses of the names in the options, by lower-case name. A socket whose address
        stays keeps its queue, whatever its name, and one that was retired but is still open is taken over again.
        """
        _refuse_same_names(sockets)
        kept = self._kept(sockets)
        missing = [options for options in sockets if options.name.lower() not in kept]
        leaving = [listener for number, listener in self.queues.items() if number not in kept.values()]
        opened = _open(missing, _Surroundings(sockets, targets=targets, leaving=leaving, hidden=True))
        numbers = dict(enumerate(opened, self.last + 1))
        self.last += len(numbers)
        self.queues |= numbers
        self.hidden |= numbers.keys()
        kept |= {listener.name.lower(): number for number, listener in numbers.items()}
        after = {options.name.lower(): kept[options.name.lower()] for options in sockets}
        return SocketChange(
            before=dict(self.numbers),
            after=after,
            opened=frozenset(numbers),
            options_before={number: self.queues[number].options for number in self.numbers.values()},
            options_after={after[options.name.lower()]: options for options in sockets},
        )

    def _kept(self, sockets: Sequence[SocketOptions]) -> dict[str, int]:
        """Return the queues that stay, by lower-case name: current ones first, then the retired."""
        left = list(sockets)
        kept: dict[str, int] = {}
        for numbers in (self.numbers, {f"\0{number}": number for number in sorted(self.retired)}):
            there = {name: self.queues[number] for name, number in numbers.items()}
            before = {
                name: (each.options, each.v6only if each.is_ours else is_ipv6_only(each.options, sockets))
                for name, each in there.items()
                if each.is_reachable or not each.is_open
            }
            found = kept_sockets(before, left, sockets)
            kept |= {name: numbers[other] for name, other in found.items()}
            left = [options for options in left if options.name.lower() not in kept]
        return kept

    def commit(self, change: SocketChange) -> None:
        """Make the new names those of the pool."""
        self._swap(change.after, change.options_after)

    def show(self) -> None:
        """Let clients into the current queues that are still hidden."""
        for number in self.hidden.intersection(self.numbers.values()):
            self._show(number)

    def _show(self, number: int) -> None:
        self.hidden.discard(number)
        listener = self.queues[number]
        try:
            self.queues[number] = listener.shown() if listener.is_open else listener
        except BindError as error:
            log.error("socket %s: %s", listener.name, error)

    def let_wait(self, numbers: Iterable[int]) -> None:
        """Let hidden abstract sockets listen, for readers that expect it: programs other than our worker."""
        for number in self.hidden.intersection(numbers):
            if self.queues[number].is_abstract:
                self._show(number)

    def take_back(self, change: SocketChange) -> None:
        """Give the former names their queues again; what was opened for the change is retired."""
        self._swap(change.before, change.options_before)

    def abandon(self, change: SocketChange) -> None:
        """Close what was opened for a change that was not committed."""
        for number in change.opened:
            self._close(number)
        self._unshare()

    def seal(self, number: int) -> None:
        """Close a retired queue to new connections."""
        if self.queues[number].is_open:
            self.queues[number].seal()

    def shut(self, number: int) -> None:
        """Refuse clients at a retired abstract socket from which nothing reads, before it is closed.

        What waits by then can still be read.
        """
        if self.queues[number].is_abstract:
            self.queues[number].refuse()

    def discard(self, number: int) -> None:
        """Close a retired queue."""
        self._close(number)
        self._unshare()

    def _close(self, number: int) -> None:
        self.hidden.discard(number)
        self.queues.pop(number).close()

    def close(self) -> None:
        """Close all, and remove our files, except those of sockets that systemd keeps."""
        for number, listener in self.queues.items():
            if self.store.keeps(number):
                listener.leave()
            else:
                listener.close()
        self.queues, self.numbers = {}, {}
        self.hidden.clear()

    def _swap(self, names: Names, options: Mapping[int, SocketOptions]) -> None:
        self.numbers = names
        for number, wanted in options.items():
            before = self.queues[number]
            self.queues[number] = replace(before, options=wanted)
            self._adjust(number)
        self.update_store()

    def update_store(self, *, patience: float = 0.0) -> None:
        """Let systemd keep the current queues, and no others."""
        self.store.update({number: self.queues[number] for number in self.numbers.values()}, patience=patience)

    def _adjust(self, number: int) -> None:
        listener = self.queues[number]
        if listener.is_open:
            try:
                listener.adjust(lets_in=number not in self.hidden)
            except BindError as error:  # mode and owner were checked with the configuration; the socket itself serves
                log.warning("%s", error)

    def _unshare(self) -> None:
        """Stop sharing ports that were shared only for a change."""
        if not self.retired:
            for number in self.numbers.values():
                self._adjust(number)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """The state in which sockets are bound: all future ones, inherited descriptors, and existing ones that will
    leave.
    """

    neighbours: Sequence[SocketOptions]
    inherited: Mapping[str, int] = field(default_factory=dict)
    stored: Mapping[str, StoredSocket] = field(default_factory=dict)
    targets: Mapping[str, BindTarget] = field(default_factory=dict)
    leaving: Sequence[BoundListener] = ()
    hidden: bool = False


def _open(sockets: Iterable[SocketOptions], there: _Surroundings) -> list[BoundListener]:
    """Open all of `sockets` or none."""
    opened: list[BoundListener] = []
    taken: set[int] = set()
    try:
        for options in sockets:
            fd = options.fd if options.fd is not None else there.inherited.get(options.name)
            if fd is None and options.name in there.stored:
                opened.append(there.stored[options.name].listener)
                continue
            if fd is None:
                opened.append(_bind(options, there))
                continue
            if fd in taken:
                raise BindError(f"socket {options.name}: descriptor {fd} was given to another socket already")
            taken.add(fd)
            opened.append(adopt(options, fd))
    except BaseException:
        for listener in opened:
            if listener.name in there.stored:
                listener.leave()
            else:
                listener.close()
        raise
    return opened


def _bind(options: SocketOptions, there: _Surroundings) -> BoundListener:
    in_the_way = [listener for listener in there.leaving if is_beside(listener.options, options) and listener.is_open]
    for listener in in_the_way:
        listener.share_port()
    return bind(
        options,
        there.targets.get(options.name.lower()),
        v6only=is_ipv6_only(options, there.neighbours),
        beside=bool(in_the_way),
        hidden=there.hidden,
    )


def _match(sockets: Sequence[SocketOptions], handed_in: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return descriptors by the names of sockets, and those left over by their own names."""
    left = {name.lower(): fd for name, fd in handed_in.items()}
    free = [options.name for options in sockets if options.fd is None]
    matched: dict[str, int] = {}
    for name in free:
        known = next((each for each in (name.lower(), f"{name.lower()}.socket") if each in left), None)
        if known is not None:
            matched[name] = left.pop(known)
    strangers = tuple(name for name in left if _NAMED_BY_NOBODY.fullmatch(name))
    for name, stranger in zip((name for name in free if name not in matched), strangers, strict=False):
        matched[name] = left.pop(stranger)
    return matched, left


def _refuse_same_names(sockets: Iterable[SocketOptions]) -> None:
    seen: set[str] = set()
    for options in sockets:
        if options.name.lower() in seen:
            raise BindError(f"socket {options.name}: two sockets have this name; names are case-insensitive")
        seen.add(options.name.lower())
