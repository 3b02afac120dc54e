"""A socket keeps its queue by its place; who must go on reading is decided by numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from socket import AddressFamily
from typing import Any

import pytest

from forkserve.config.model import SocketOptions
from forkserve.config.options import ReloadCost, options_of
from forkserve.config.places import is_ipv6_only, kept_sockets
from forkserve.supervision.reload.retirement import is_held

WEB = SocketOptions(name="web", host="127.0.0.1", port=80)
UNIX = SocketOptions(name="app", path="/run/app.sock", family=AddressFamily.AF_UNIX)


def kept(before: Sequence[SocketOptions], *after: SocketOptions) -> dict[str, str]:
    there = {each.name.lower(): (each, is_ipv6_only(each, before)) for each in before}
    return kept_sockets(there, after, after)


def other(options: SocketOptions, **changes: Any) -> SocketOptions:
    values = {each.name: getattr(options, each.name) for each in options_of(SocketOptions)}
    return SocketOptions(**{"name": options.name, **values, **changes})


@pytest.mark.parametrize("option", options_of(SocketOptions), ids=lambda option: option.name)
@pytest.mark.parametrize("socket", [WEB, UNIX], ids=["tcp", "unix"])
def test_a_queue_stays_unless_its_place_is_another(option: Any, socket: SocketOptions) -> None:
    value = getattr(socket, option.name)
    changed = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "other"
    after = other(socket, **{option.name: changed})
    of_a_path = {"path", "type", "fd"}
    moves = option.name in of_a_path if socket is UNIX else option.reload is not ReloadCost.LIVE

    assert kept([socket], after) == ({} if moves else {socket.name: socket.name})


def test_a_name_may_change_and_two_may_be_exchanged() -> None:
    a, b = other(WEB, name="a", port=1), other(WEB, name="b", port=2)

    assert kept([WEB], other(WEB, name="http")) == {"http": "web"}
    assert kept([a, b], other(a, name="B"), other(b, name="A")) == {"b": "a", "a": "b"}


def test_the_same_name_goes_first_where_the_kernel_chooses_the_port() -> None:
    a, b = other(WEB, name="a", port=0), other(WEB, name="b", port=0)

    assert kept([a, b], b, a) == {"a": "a", "b": "b"}
    assert kept([a, b], other(a, name="c"), b) == {"b": "b", "c": "a"}


def test_an_ipv6_socket_moves_when_ipv4_is_given_to_another_or_taken_back() -> None:
    six, four = other(WEB, name="six", host="::"), other(WEB, name="four", host="0.0.0.0")

    assert kept([six], six, four) == {}
    assert kept([six, four], six) == {}
    assert kept([six, four], four, six) == {"six": "six", "four": "four"}
    assert kept([six], six, other(four, port=81)) == {"six": "six"}


@pytest.mark.parametrize(
    ("queues", "readers", "unread", "expected"),
    [
        ((1,), {1: {7}}, {1}, True),
        ((1,), {1: {7, 8}}, {1}, False),
        ((1,), {1: {7}}, {2}, False),
        ((1, 2), {1: {7, 8}, 2: {7}}, {1, 2}, True),
        ((1,), {}, {1}, True),
        ((), {}, {1}, False),
    ],
)
def test_the_last_reader_of_a_queue_is_held(
    queues: tuple[int, ...], readers: dict[int, set[int]], unread: set[int], expected: bool
) -> None:
    assert is_held(queues, 7, readers, unread) is expected
