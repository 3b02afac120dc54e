"""The named sockets: bound once by the master, handed to any command, held until the very end.

A connection that the kernel has queued outlives every reader, since the queue belongs to the master. `open` binds all
sockets or none. A reload is two steps, so that it can be refused: `prepare` binds what is new beside what there is, and
`Change.commit` swaps; until then nothing has changed.

With `so_reuseport` the master binds one queue as well, and shares it; more queues for one address are more listeners of
the same name, for which `Listener` and `fds` leave room.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from socket import AddressFamily, inet_pton

from forkserve.config.model import SocketOptions
from forkserve.config.options import Reload, options_of
from forkserve.errors import BindError
from forkserve.unix.listeners import Listener, adopt, bind

__all__ = ["Change", "SocketPool"]

log = logging.getLogger(__name__)

_REBIND = tuple(each.name for each in options_of(SocketOptions) if each.reload in (Reload.REBIND, Reload.RESTART))


_NAMED_BY_NOBODY = re.compile(r"(unknown|.*\.socket)(-\d+)?")
"""sd_listen_fds_with_names(3), FileDescriptorName= of systemd.socket(5); a number tells those of one name apart."""


class SocketPool:
    """Listeners by name; names compare without regard to case, as in Circus."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = {listener.name.lower(): listener for listener in listeners}

    @classmethod
    def open(cls, sockets: Sequence[SocketOptions], handed_in: Mapping[str, int] | None = None) -> SocketPool:
        """Bind all sockets, or none; raises BindError.

        `handed_in` are descriptors of LISTEN_FDS by name: a socket takes the one of its name, and no other. Those that
        nobody has named, as `unknown` or by systemd's default, `UNIT.socket`, go in order to the sockets that got none.
        """
        _refuse_same_names(sockets)
        inherited, left_over = _match(sockets, handed_in or {})
        for name, fd in left_over.items():
            log.warning("descriptor %d (%s) of LISTEN_FDS is wanted by no socket of the configuration", fd, name)
        return cls(_open(sockets, sockets, inherited))

    def __iter__(self) -> Iterator[Listener]:
        """Iterate over the listeners in the order of the configuration."""
        return iter(tuple(self._listeners.values()))

    def __len__(self) -> int:
        return len(self._listeners)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._listeners

    def __getitem__(self, name: str) -> Listener:
        return self._listeners[name.lower()]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the configuration."""
        return tuple(listener.name for listener in self._listeners.values())

    def fds(self, names: Iterable[str]) -> dict[str, int]:
        """Return descriptors by the names asked for, in that order; raises KeyError for a name that is not there."""
        return {name: self[name].fd for name in names}

    def prepare(self, sockets: Sequence[SocketOptions]) -> Change:
        """Bind what a new configuration adds or changes, and touch nothing that serves; raises BindError.

        A socket whose address stays is kept as it is, with everything in its queue.
        """
        _refuse_same_names(sockets)
        wanted = {options.name.lower(): options for options in sockets}
        kept = {
            name: replace(listener, options=wanted[name])
            for name, listener in self._listeners.items()
            if name in wanted and _stays(listener, wanted[name], sockets)
        }
        left = [listener for name, listener in self._listeners.items() if name not in kept]
        opened = _open([options for name, options in wanted.items() if name not in kept], sockets, {}, left)
        return Change(self, tuple(wanted), kept, {listener.name.lower(): listener for listener in opened})

    def replace_all(self, listeners: Mapping[str, Listener]) -> tuple[Listener, ...]:
        """Hold these from now on, by lower-case name; returns those that are held no more, still open."""
        before = self._listeners
        self._listeners = dict(listeners)
        sockets = {id(listener.socket) for listener in listeners.values()}
        return tuple(listener for listener in before.values() if id(listener.socket) not in sockets)

    def close(self) -> None:
        """Close all, and remove the files that are ours."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners = {}


@dataclass(frozen=True, slots=True)
class Change:
    """New sockets, bound and waiting beside the old; exactly one of `commit` and `abandon` ends it."""

    pool: SocketPool
    order: tuple[str, ...]
    kept: Mapping[str, Listener]
    opened: Mapping[str, Listener]

    @property
    def rebound(self) -> frozenset[str]:
        """Names, in lower case, of sockets that will be others than before: their readers must be replaced."""
        return frozenset(self.opened)

    def commit(self) -> tuple[Listener, ...]:
        """Make the new sockets those of the pool; returns the ones that were replaced, for the caller to close.

        They stay open until their last readers have gone, so that nothing that waits in them is lost.
        """
        for name, listener in self.kept.items():
            try:
                if listener.options != self.pool[name].options:
                    listener.adjust()
            except BindError as error:  # mode and owner were checked with the configuration; the socket itself serves
                log.warning("%s", error)
        both = {**self.kept, **self.opened}
        return self.pool.replace_all({name: both[name] for name in self.order})

    def abandon(self) -> None:
        """Close what was opened; the pool stays as it was."""
        for listener in self.opened.values():
            listener.close()


def _open(
    sockets: Iterable[SocketOptions],
    neighbours: Sequence[SocketOptions],
    inherited: Mapping[str, int],
    leaving: Sequence[Listener] = (),
) -> list[Listener]:
    """Open all of `sockets` or none. `neighbours` are all that will be there, `leaving` those that still are."""
    opened: list[Listener] = []
    taken: set[int] = set()
    try:
        for options in sockets:
            fd = options.fd if options.fd is not None else inherited.get(options.name)
            if fd is None:
                opened.append(_bind(options, neighbours, leaving))
                continue
            if fd in taken:
                raise BindError(f"socket {options.name}: descriptor {fd} was given to another socket already")
            taken.add(fd)
            opened.append(adopt(options, fd))
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def _bind(options: SocketOptions, neighbours: Sequence[SocketOptions], leaving: Sequence[Listener]) -> Listener:
    v6only = any(_is_v4_twin(options, other) for other in neighbours if other is not options)
    in_the_way = [listener for listener in leaving if _same_port(listener.options, options)]
    for listener in in_the_way:
        listener.share_port()
    return bind(options, v6only=v6only, beside=bool(in_the_way))


def _same_port(one: SocketOptions, other: SocketOptions) -> bool:
    return one.path is None and other.path is None and one.port == other.port != 0 and one.type == other.type


def _is_v4_twin(options: SocketOptions, other: SocketOptions) -> bool:
    """`[::]:80` takes IPv4 as well, unless a socket of its own has been given to the same port there."""
    return _same_port(options, other) and ":" not in other.host and other.family is AddressFamily.AF_INET


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


def _stays(listener: Listener, after: SocketOptions, neighbours: Sequence[SocketOptions]) -> bool:
    """A unix socket is its path and type, while it lies there: whatever else is said of it can be changed in place.

    `[::]` gets IPv4 or not with its bind, so it is bound anew when a neighbour there comes or goes.
    """
    names = ("path", "type", "fd") if after.path is not None else _REBIND
    if any(getattr(listener.options, name) != getattr(after, name) for name in names):
        return False
    if listener.file is not None:
        return not listener.file.is_missing
    if listener.is_adopted or not _is_any_ipv6(after):
        return True
    return listener.takes_ipv4_too is not any(_is_v4_twin(after, other) for other in neighbours if other is not after)


def _is_any_ipv6(options: SocketOptions) -> bool:
    try:
        return options.path is None and not any(inet_pton(AddressFamily.AF_INET6, options.host.strip("[]")))
    except OSError:
        return False


def _refuse_same_names(sockets: Iterable[SocketOptions]) -> None:
    seen: set[str] = set()
    for options in sockets:
        if options.name.lower() in seen:
            raise BindError(f"socket {options.name}: two sockets have this name; names do not tell case apart")
        seen.add(options.name.lower())
