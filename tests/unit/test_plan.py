"""What a reload finds to do, for every option there is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from forkserve.config.model import Config, MasterOptions, SocketOptions, WatcherOptions
from forkserve.config.options import ReloadCost, options_of
from forkserve.supervision.reload.plan import Plan, plan

WEB = WatcherOptions(name="web", cmd="serve $(circus.sockets.web)")
REDIS = WatcherOptions(name="redis", cmd="redis-server")
SOCKET = SocketOptions(name="web", port=8000)
CONFIG = Config(sockets=(SOCKET,), watchers=(WEB, REDIS))


def _other(value: Any) -> Any:
    """Return a value that differs from an option's default, of whatever type it is."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return "other"


def _differences(found: Plan) -> list[object]:
    changed = [each for each in found.kept if each.live or each.respawn]
    return [*found.added, *found.removed, *found.rebound, *found.restart, *changed]


def test_equal_configurations_need_nothing() -> None:
    assert not _differences(plan(CONFIG, CONFIG))


def test_watchers_come_and_go_by_name_without_regard_to_case() -> None:
    new = dataclasses.replace(
        CONFIG, watchers=(dataclasses.replace(WEB, name="Web"), WatcherOptions(name="x", cmd="x"))
    )

    found = plan(CONFIG, new)

    assert [each.name for each in found.added] == ["x"]
    assert found.removed == ("redis",)
    assert [each.options.name for each in found.kept] == ["Web"]


@pytest.mark.parametrize("option", options_of(WatcherOptions), ids=lambda option: option.name)
def test_a_changed_option_is_live_or_needs_new_processes_as_declared(option: Any) -> None:
    after = dataclasses.replace(WEB, **{option.name: _other(getattr(WEB, option.name))})

    change = plan(CONFIG, dataclasses.replace(CONFIG, watchers=(after, REDIS))).kept[0]

    if option.reload is ReloadCost.LIVE:
        assert (change.live, change.respawn) == ({option.name}, set())
    else:
        assert change.live == set()
        assert option.name in change.respawn


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(WatcherOptions) if each.name != "name"])
def test_no_field_of_a_watcher_changes_unnoticed(name: str) -> None:
    value = getattr(WEB, name)
    changed = {"A": "b"} if isinstance(value, dict) else _other(value)

    found = plan(CONFIG, dataclasses.replace(CONFIG, watchers=(dataclasses.replace(WEB, **{name: changed}), REDIS)))

    assert _differences(found)


def test_a_rebound_socket_needs_new_readers_and_nobody_else() -> None:
    after = dataclasses.replace(CONFIG, sockets=(dataclasses.replace(SOCKET, port=8001),))
    found = plan(CONFIG, after, frozenset({"web"}))

    assert found.rebound == {"web"}
    assert [each.respawn for each in found.kept] == [{"sockets"}, set()]


def test_a_socket_that_keeps_its_queue_needs_nobody() -> None:
    found = plan(CONFIG, dataclasses.replace(CONFIG, sockets=(dataclasses.replace(SOCKET, backlog=9),)))

    assert not any(each.respawn for each in found.kept)


def test_a_watcher_of_all_sockets_needs_new_processes_when_there_is_one_more() -> None:
    every = dataclasses.replace(WEB, cmd="serve", use_sockets=True)
    before = dataclasses.replace(CONFIG, watchers=(every,))
    after = dataclasses.replace(before, sockets=(SOCKET, SocketOptions(name="b", port=1)))

    assert plan(before, after).kept[0].respawn == {"sockets"}


def test_options_that_need_another_master_are_named() -> None:
    found = plan(CONFIG, dataclasses.replace(CONFIG, master=MasterOptions(pidfile="x", warmup_delay=1.0)))

    assert found == Plan(kept=found.kept, restart=("pidfile",))
