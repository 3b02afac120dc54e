"""How the options of a watcher become words, environment and descriptors."""

from __future__ import annotations

import dataclasses
import os
import resource
from typing import Any

import pytest

from forkserve.cli.serving import parse_worker_line
from forkserve.config.handover import drain_limit
from forkserve.config.model import WatcherOptions
from forkserve.errors import ConfigError
from forkserve.supervision.os.spawn import SpawnSpec
from forkserve.supervision.spawning.command import ProcessTemplate, credentials_of, prepare
from forkserve.supervision.spawning.handover import Handover, Outputs

WEB = WatcherOptions(name="web", cmd="serve --fd $(circus.sockets.web) $(circus.wid)", use_sockets=True)
INHERITED = {"PATH": "/bin", "NOTIFY_SOCKET": "/systemd", "LISTEN_FDS": "1", "HOME": "/root"}


def _command(options: WatcherOptions, sockets: tuple[str, ...] = ("admin", "web")) -> ProcessTemplate:
    numbers = {name: number for number, name in enumerate(sockets, 1)}
    return prepare(options, numbers, inherited=INHERITED, credentials=credentials_of(options))


def _spec(options: WatcherOptions) -> SpawnSpec:
    return _command(options).spec(2, lambda number, _wid: 10 + number, Outputs(), Handover(notify_address="/ours/1"))


def test_a_socket_named_in_the_command_is_the_first_inherited_descriptor() -> None:
    spec = _spec(WEB)

    assert spec.argv == ("serve", "--fd", "3", "2")
    assert spec.sockets == {"web": 12}, "the second queue"


def test_a_command_that_names_none_gets_all_in_order() -> None:
    assert list(_spec(dataclasses.replace(WEB, cmd="serve")).sockets) == ["admin", "web"]


def test_without_use_sockets_and_without_a_name_there_is_none() -> None:
    assert _spec(dataclasses.replace(WEB, cmd="serve", use_sockets=False)).sockets == {}


@pytest.mark.parametrize(
    ("cmd", "told"),
    [
        ("serve --fd $(circus.sockets.web)", True),
        ("gunicorn --bind fd://$(circus.sockets.web) a:app", False),
        ("gunicorn -b fd://((CIRCUS.sockets.web)) a:app", False),
        ("serve", True),
    ],
)
def test_what_has_a_socket_as_an_url_does_not_get_it_by_listen_fds_as_well(cmd: str, told: bool) -> None:
    assert _spec(dataclasses.replace(WEB, cmd=cmd)).listen_fds is told


def test_placeholders_are_replaced_before_the_words_are_split() -> None:
    options = dataclasses.replace(WEB, cmd="run $(circus.env.flags)", env={"FLAGS": "-a '-b c'"})

    assert _spec(options).argv == ("run", "-a", "-b c")


def test_what_systemd_said_to_the_master_is_not_handed_on() -> None:
    env = _spec(dataclasses.replace(WEB, copy_env=True)).env

    assert env["NOTIFY_SOCKET"] == "/ours/1"
    assert "LISTEN_FDS" not in env
    assert env["HOME"] == "/root"
    assert (env["FORKSERVE_WATCHER"], env["FORKSERVE_WID"]) == ("web", "2")


def test_a_process_is_told_to_be_done_before_it_is_killed() -> None:
    env = _spec(dataclasses.replace(WEB, graceful_timeout=5.0)).env

    assert parse_worker_line(["m:app"], env).options.serving.timeouts.graceful_timeout == 4.5


@pytest.mark.parametrize(("graceful_timeout", "limit"), [(0, "0"), (0.5, "0.45"), (10, "9"), (3600, "3599")])
def test_a_drain_limit_leaves_time_to_say_what_was_cut(graceful_timeout: float, limit: str) -> None:
    assert drain_limit(graceful_timeout) == limit


def test_the_env_sections_beat_the_inherited_environment() -> None:
    assert _spec(dataclasses.replace(WEB, copy_env=True, env={"HOME": "/x"})).env["HOME"] == "/x"


def test_no_limit_on_descriptors_means_the_most_there_can_be() -> None:
    options = dataclasses.replace(WEB, rlimits={"RLIMIT_NOFILE": -1, "RLIMIT_CORE": -1})

    assert _spec(options).rlimits == {"RLIMIT_NOFILE": resource.getrlimit(resource.RLIMIT_NOFILE)[1], "RLIMIT_CORE": -1}


def test_an_unknown_user_is_a_mistake_that_names_its_watcher() -> None:
    with pytest.raises(ConfigError, match=r"\[watcher:web\]: unknown user 'no-such-user'"):
        _command(dataclasses.replace(WEB, uid="no-such-user"))


def test_a_quotation_without_its_end_is_a_mistake_before_anything_is_started() -> None:
    with pytest.raises(ConfigError, match=r"\[watcher:web\] cmd: No closing quotation"):
        _command(dataclasses.replace(WEB, cmd="sh -c 'oops"))


@pytest.mark.parametrize(
    ("cmd", "says_ready"),
    [
        ("forkserve-worker --fd 3 app", True),
        (f"{os.sep}venv/bin/forkserve-worker app", True),
        ("uv run forkserve-worker app", True),
        ("forkserve-worker --use-reloader app", False),
        ("python worker.py", False),
    ],
)
def test_our_own_worker_is_known_to_say_when_it_is_ready(cmd: str, says_ready: bool) -> None:
    assert _command(dataclasses.replace(WEB, cmd=cmd)).says_ready is says_ready


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"singleton": True}, False),
        ({"cmd": "redis", "use_sockets": False}, False),
        ({"cmd": "celery", "use_sockets": False, "numprocesses": 2}, True),
        ({"cmd": "fcgi", "use_sockets": False, "stdin_socket": "web"}, True),
    ],
)
def test_only_what_cannot_collide_is_replaced_side_by_side(changes: dict[str, Any], expected: bool) -> None:
    options = dataclasses.replace(WEB, **changes)
    assert _command(options).may_run_beside(options, options.numprocesses) is expected
