"""What a `[plugin:NAME]` section runs, and what the plugins decide."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from forkserve.config.load import load
from forkserve.config.plugins import PLUGINS, plugin_options
from forkserve.errors import ConfigErrors
from forkserve.sidecars.plugins.__main__ import BUILT_IN
from forkserve.sidecars.plugins.flapping import DeathTimeline, FlappingVerdict
from forkserve.sidecars.plugins.observers import figures_of
from forkserve.sidecars.plugins.programs import program_of
from forkserve.sidecars.plugins.resources import UsageExtremes, excesses

FLAPPING = "circus.plugins.flapping.Flapping"
RESOURCES = "circus.plugins.resource_watcher.ResourceWatcher"


def _loaded(place: Path, text: str) -> Any:
    (place / "circus.ini").write_text(text)
    return load(str(place / "circus.ini"), environ={"ROOM": "attic"})


def test_a_plugin_is_a_watcher_that_is_alone_and_starts_first(tmp_path: Path) -> None:
    config = _loaded(
        tmp_path,
        "[circus]\nendpoint = tcp://*:5555\n[watcher:w]\ncmd = true\n"
        "[plugin:mine]\nuse = my.plugins.Mine\ngreeting = hello $(circus.env.ROOM)\npriority = 7\n"
        "stdout_stream.filename = out.log\n",
    )
    watcher = config.watchers[-1]

    assert config.warnings == ()
    assert (watcher.name, watcher.singleton, watcher.priority, watcher.copy_env) == ("plugin:mine", True, 7, True)
    assert watcher.stdout_stream is not None
    words = shlex.split(watcher.cmd)
    assert words[words.index("--use") + 1] == "my.plugins.Mine"
    assert words[words.index("--endpoint") + 1] == "tcp://*:5555"
    assert "greeting=hello attic" in words


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("", "[plugin:p] use: is missing: give the class to run"),
        ("use = flapping", "[plugin:p] use: expected the dotted name of a class"),
        ("use = circus.plugins.flapping.Flaping", "did you mean 'circus.plugins.flapping.Flapping'"),
        (f"use = {FLAPPING}\nwindow = soon", "[plugin:p] window: expected"),
        (f"use = {RESOURCES}", "[plugin:p] watcher: is missing"),
        (f"use = {RESOURCES}\nwatcher = w\nmax_mem = much", "[plugin:p] max_mem: expected"),
        ("use = circus.plugins.watchdog.WatchDog\nmsg_regex = (", "[plugin:p] msg_regex: expected a regular"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said_with_its_place(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        _loaded(tmp_path, f"[watcher:w]\ncmd = true\n[plugin:p]\n{section}\nx = 1\n")
    assert message in str(caught.value)


def test_each_plugin_of_circus_has_a_program_of_ours() -> None:
    assert set(BUILT_IN) == set(PLUGINS)


def test_old_names_of_options_are_known() -> None:
    assert plugin_options(RESOURCES, {"service": "web"})["watcher"] == "web"


@pytest.mark.parametrize(
    ("deaths", "last"),
    [
        ([0.0], FlappingVerdict()),
        ([0.0, 0.5], FlappingVerdict(stop=True, again=True, tries=1)),
        ([0.0, 5.0], FlappingVerdict()),
        ([0.0, 0.5, 10.0, 10.5], FlappingVerdict(stop=True, again=True, tries=2)),
        ([0.0, 0.5, 10.0, 10.5, 20.0, 20.5], FlappingVerdict(stop=True)),
        ([0.0, 0.5, 10.0, 15.0, 20.0, 20.5], FlappingVerdict(stop=True, again=True, tries=1)),
    ],
)
def test_a_watcher_flaps_when_it_dies_often_within_a_window(deaths: list[float], last: FlappingVerdict) -> None:
    options = plugin_options(FLAPPING, {"max_retry": "2"})
    timeline = DeathTimeline()
    assert [timeline.died(each, options) for each in deaths][-1] == last


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["over_cpu", "over_health"]),
        ({"max_cpu": "0", "health_threshold": "0"}, []),
        ({"max_cpu": "99", "max_mem": "50"}, ["over_memory", "over_health"]),
        ({"max_cpu": "99", "max_mem": "700M", "health_threshold": "90"}, ["over_memory"]),
        ({"max_cpu": "99", "max_mem": "1G", "health_threshold": "90"}, []),
        ({"max_cpu": "99", "min_cpu": "30", "min_mem": "20", "health_threshold": "0"}, ["under_cpu", "under_memory"]),
    ],
)
def test_a_watcher_exceeds_what_its_options_say(given: dict[str, str], found: list[str]) -> None:
    total = 1000 * 1024 * 1024
    used = [{"cpu": 95.0, "memory": 8 * total // 10}, {"cpu": 10.0, "memory": total // 10}]
    options = plugin_options(RESOURCES, {"watcher": "w", **given})
    assert excesses(UsageExtremes.of(used, total), options) == found


def test_the_figures_of_redis_are_those_that_circus_sends() -> None:
    info = "# Clients\r\nconnected_clients:3\r\nredis_version:7.0\r\nused_cpu_sys:1.5\r\nlru_clock:x\r\n"
    assert figures_of(info) == {"connected_clients": 3.0, "used_cpu_sys": 1.5}


def test_a_program_is_known_by_its_path_behind_links_and_its_time(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "prog").symlink_to("one")
    options = {"cmd": "./prog --flag", "working_dir": str(tmp_path), "env": {}}
    first = program_of(options)
    assert first is not None
    assert first[0] == str(tmp_path / "one")
    (tmp_path / "two").write_text("2")
    (tmp_path / "prog").unlink()
    (tmp_path / "prog").symlink_to("two")
    assert program_of(options) != first
    assert program_of({**options, "cmd": "nosuch 'x"}) is None


@pytest.mark.parametrize(
    ("text", "level"), [("debug = True", "debug"), ("debug = True\nloglevel = error", "error"), ("debug = no", "info")]
)
def test_debug_is_a_level_of_the_log(tmp_path: Path, text: str, level: str) -> None:
    config = _loaded(tmp_path, f"[circus]\n{text}\n[watcher:w]\ncmd = true\n")
    assert (config.master.loglevel, config.warnings) == (level, ())
