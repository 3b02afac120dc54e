"""The named sockets: bound once by the master, handed to any command, held until the very end.

A connection that the kernel has queued outlives every reader, since the queue belongs to the master. `open` binds all
sockets or none. A reload is two steps, so that it can be refused: `prepare` binds what is new beside what there is, and
`Change.commit` swaps; until then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from socket import AddressFamily, SocketKind

from forkserve.config.model import SocketOptions
from forkserve.config.options import Reload, options_of
from forkserve.errors import BindError
from forkserve.unix.listeners import Listener, adopt, bind

__all__ = ["Change", "SocketPool"]

_REBIND = tuple(each.name for each in options_of(SocketOptions) if each.reload in (Reload.REBIND, Reload.RESTART))


class SocketPool:
    """Listeners by name; names compare without regard to case, as in Circus."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = {listener.name.lower(): listener for listener in listeners}

    @classmethod
    def open(cls, sockets: Sequence[SocketOptions], handed_in: Mapping[str, int] | None = None) -> SocketPool:
        """Bind all sockets, or none; raises BindError.

        `handed_in` are descriptors of LISTEN_FDS by name: a socket takes the one of its name, and those whose names fit
        nothing go, in order, to the sockets that got none (systemd's default name is that of the unit).
        """
        return cls(_open(sockets, _match(sockets, handed_in or {})))

    def __iter__(self) -> Iterator[Listener]:
        """Iterate over the listeners in the order of the configuration."""
        return iter(tuple(self._listeners.values()))

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._listeners

    def fds(self, names: Iterable[str]) -> dict[str, int]:
        """Return descriptors by name, in the order asked for; raises KeyError for a name that is not there."""
        return {name: self._listeners[name.lower()].socket.fileno() for name in names}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the configuration."""
        return tuple(listener.name for listener in self._listeners.values())

    def prepare(self, sockets: Sequence[SocketOptions]) -> Change:
        """Bind what a new configuration adds or changes, and touch nothing that serves; raises BindError.

        A socket whose address stays is kept as it is, with everything in its queue.
        """
        wanted = {options.name.lower(): options for options in sockets}
        kept = {
            name: replace(listener, options=wanted[name])
            for name, listener in self._listeners.items()
            if name in wanted and _same_place(listener.options, wanted[name])
        }
        opened = _open([options for name, options in wanted.items() if name not in kept], {})
        return Change(self, wanted, kept, {listener.name.lower(): listener for listener in opened})

    def close(self) -> None:
        """Close all, and remove the files that are ours."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()


@dataclass(frozen=True, slots=True)
class Change:
    """New sockets, bound and waiting beside the old."""

    _pool: SocketPool
    _wanted: Mapping[str, SocketOptions]
    _kept: Mapping[str, Listener]
    _opened: Mapping[str, Listener]

    @property
    def rebound(self) -> frozenset[str]:
        """Names, in lower case, of sockets that will be others than before: their readers must be replaced."""
        return frozenset(self._opened)

    def commit(self) -> tuple[Listener, ...]:
        """Make the new sockets those of the pool; returns the ones that were replaced, for the caller to close.

        They stay open until their last readers have gone, so that nothing that waits in them is lost.
        """
        before = self._pool._listeners
        both = {**self._kept, **self._opened}
        retired = tuple(listener for name, listener in before.items() if name not in self._kept)
        self._pool._listeners = {name: both[name] for name in self._wanted}
        for listener in both.values():
            if listener.socket.type in (SocketKind.SOCK_STREAM, SocketKind.SOCK_SEQPACKET):
                listener.socket.listen(listener.options.backlog)  # listen(2) again changes the backlog alone
        return retired

    def abandon(self) -> None:
        """Close what was opened; the pool stays as it was."""
        for listener in self._opened.values():
            listener.close()


def _open(sockets: Iterable[SocketOptions], handed_in: Mapping[str, int]) -> list[Listener]:
    options_list = list(sockets)
    opened: list[Listener] = []
    try:
        for options in options_list:
            fd = options.fd if options.fd is not None else handed_in.get(options.name)
            opened.append(
                bind(options, v6only=_has_v4_twin(options, options_list)) if fd is None else adopt(options, fd)
            )
    except BindError:
        for listener in opened:
            listener.close()
        raise
    return opened


def _has_v4_twin(options: SocketOptions, others: Iterable[SocketOptions]) -> bool:
    """`[::]:80` takes IPv4 as well, unless a socket of its own has been given to the same port there."""
    return any(
        other.port == options.port
        and other.path is None
        and ":" not in other.host
        and other.family is AddressFamily.AF_INET
        for other in others
        if other is not options
    )


def _match(sockets: Sequence[SocketOptions], handed_in: Mapping[str, int]) -> dict[str, int]:
    by_name = {name.lower(): fd for name, fd in handed_in.items()}
    matched = {
        options.name: by_name.pop(options.name.lower()) for options in sockets if options.name.lower() in by_name
    }
    unmatched = (options.name for options in sockets if options.name not in matched and options.fd is None)
    return matched | dict(zip(unmatched, by_name.values(), strict=False))


def _same_place(before: SocketOptions, after: SocketOptions) -> bool:
    return all(getattr(before, name) == getattr(after, name) for name in _REBIND)
