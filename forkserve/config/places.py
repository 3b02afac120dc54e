"""Which socket of a new configuration is one of the old: a name may change, the queue at an address stays.

Rules: pure. A socket is identified by its place, the argument of bind(2); everything else can be changed on it. The
consistency check refuses two sockets at one place, so a place has one socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv6Address
from socket import AddressFamily

from forkserve.config.model import SocketOptions

__all__ = ["is_beside", "is_ipv6_only", "kept_sockets"]

Place = tuple[object, ...]


def kept_sockets(
    before: Mapping[str, tuple[SocketOptions, bool]],
    after: Sequence[SocketOptions],
    neighbours: Sequence[SocketOptions],
) -> dict[str, str]:
    """Return, by lower-case name of `after`, the name in `before` whose queue it keeps.

    `before` has the options of each socket, and whether it leaves IPv4 to another; `neighbours` are all sockets of the
    new configuration. The same name takes precedence, which distinguishes sockets whose port the kernel chooses.
    """
    left = {name: _place(options, ipv6_only=only) for name, (options, only) in before.items()}
    wanted = {each.name.lower(): _place(each, ipv6_only=is_ipv6_only(each, neighbours)) for each in after}
    found: dict[str, str] = {}
    for name, place in wanted.items():
        if left.get(name) == place:
            found[name] = name
            del left[name]
    for name, place in wanted.items():
        other = next((each for each, its in left.items() if its == place), None)
        if name not in found and other is not None:
            found[name] = other
            del left[other]
    return found


def is_ipv6_only(options: SocketOptions, neighbours: Sequence[SocketOptions]) -> bool:
    """Tell whether `[::]` leaves IPv4 to another: it takes both, unless 0.0.0.0 has the same port."""
    return _is_any_ipv6(options) and any(
        is_beside(options, other) and ":" not in other.host and other.family is AddressFamily.AF_INET
        for other in neighbours
        if other is not options
    )


def _is_any_ipv6(options: SocketOptions) -> bool:
    try:
        return options.path is None and IPv6Address(options.host.strip("[]")).is_unspecified
    except AddressValueError:
        return False


def is_beside(one: SocketOptions, other: SocketOptions) -> bool:
    """Tell whether two sockets have the same port, so that they may conflict."""
    return one.path is None and other.path is None and one.port == other.port != 0 and one.type == other.type


def _place(options: SocketOptions, *, ipv6_only: bool) -> Place:
    if options.fd is not None:
        return ("fd", options.fd)
    if options.path is not None:
        return ("unix", options.path, options.type)
    address = (options.host.strip("[]"), options.port, options.family, options.type)
    return (*address, options.proto, options.interface, ipv6_only)
