"""The reference is made from the declarations, and the one in docs/ is the present one."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.config import later
from forkserve.config.defaults import default_text
from forkserve.config.launch import WorkerOptions
from forkserve.config.model import MasterOptions, SocketOptions, StreamOptions, WatcherOptions
from forkserve.config.options import Option, options_of, slices_of
from forkserve.config.reference import markdown, render
from forkserve.errors import UsageError

DECLARED = [
    pytest.param(option, id=f"{cls.__name__}.{option.name}")
    for cls in (MasterOptions, SocketOptions, WatcherOptions, StreamOptions, *slices_of(WorkerOptions))
    for option in options_of(cls)
]

CIRCUS = {
    MasterOptions: (
        "endpoint endpoint_owner pubsub_endpoint stats_endpoint statsd multicast_endpoint check_delay warmup_delay "
        "umask pidfile loglevel logoutput loggerconfig debug debug_gc fqdn_prefix httpd httpd_host httpd_port include "
        "include_dir statsd_close_outputs httpd_close_outputs stream_backend"
    ),
    WatcherOptions: (
        "cmd args executable shell shell_args working_dir uid gid copy_env copy_path virtualenv virtualenv_py_ver "
        "numprocesses singleton warmup_delay autostart respawn on_demand use_sockets stdin_socket send_hup stop_signal "
        "stop_children graceful_timeout max_retry max_age max_age_variance priority close_child_stdin "
        "close_child_stdout close_child_stderr check_flapping env"
    ),
    SocketOptions: "host port family type proto backlog path umask replace interface so_reuseport blocking",
    StreamOptions: (
        "class filename max_bytes backup_count time_format rotate_when rotate_interval utc color refresh_time"
    ),
}
LATER = {MasterOptions: later.MASTER, WatcherOptions: later.WATCHER, StreamOptions: later.STREAM}


def test_the_reference_in_the_docs_is_what_the_command_prints() -> None:
    written = Path(__file__).parent.parent.parent / "docs" / "options.md"
    assert written.read_text() == markdown(), "run: forkserve options --markdown > docs/options.md"


@pytest.mark.parametrize("cls", CIRCUS)
def test_every_option_of_circus_is_honoured_or_refused_by_name(cls: type) -> None:
    known = {name for each in options_of(cls) for name in (each.name, *each.aliases)}
    assert set(CIRCUS[cls].split()) <= known | set(LATER.get(cls, {}))


@pytest.mark.parametrize("cls", LATER)
def test_no_option_is_honoured_and_refused_at_once(cls: type) -> None:
    assert not {each.name for each in options_of(cls)} & set(LATER[cls])


@pytest.mark.parametrize("option", DECLARED)
def test_every_option_has_a_sentence_of_help(option: Option) -> None:
    assert option.help.endswith(".")
    assert option.help[0] not in " ."


@pytest.mark.parametrize("option", DECLARED)
def test_every_default_passes_its_own_check(option: Option) -> None:
    if not option.required and option.check is not None:
        assert option.check(option.default) is None


@pytest.mark.parametrize("option", DECLARED)
def test_every_default_can_be_written_into_a_file(option: Option) -> None:
    text = default_text(option)
    if text not in ("none", "required") and not option.many:
        assert option.parse(text) == option.default


def test_one_option_is_described_with_section_default_and_reload() -> None:
    text = render("numprocesses")
    assert "[watcher:NAME]" in text
    assert "default  1" in text
    assert "applied at once" in text


def test_an_option_that_is_not_served_says_so() -> None:
    assert "ignored" in render("fqdn_prefix")


def test_an_unknown_option_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'numprocesses'"):
        render("numproceses")
