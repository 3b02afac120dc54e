"""The arguments of forkserve-worker, and what the chosen backend makes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from forkserve.backends import registry
from forkserve.backends.base import Interface, Traits
from forkserve.backends.fitting import unhonoured
from forkserve.backends.preparation import prepare
from forkserve.backends.registry import Entry, entries, find, state_of
from forkserve.cli.serving import parse_worker_line
from forkserve.config.address import Address
from forkserve.config.options import options_of, slices_of
from forkserve.config.serving import ServingOptions
from forkserve.errors import UsageError
from forkserve.serving.inherited import read_fd

KNOWN = {option.name for part in slices_of(ServingOptions) for option in options_of(part)}


def parse(*words: str, environ: dict[str, str] | None = None) -> Any:
    return parse_worker_line(words, environ or {}).options


def test_the_flags_of_chaussette_gunicorn_and_uvicorn_mean_the_same() -> None:
    options = parse("-k", "gevent", "-b", ":8000", "--bind", "unix:/x", "--timeout", "5s", "--keepalive", "2", "m:app")
    assert options.process.backend == "gevent"
    assert options.listen.bind == (Address("0.0.0.0", 8000), Address(path="/x"))
    assert (options.serving.timeouts.timeout, options.serving.timeouts.keep_alive) == (5.0, 2.0)
    assert options.application.application == "m:app"
    assert options.given == {
        "backend": "--backend", "bind": "--bind", "timeout": "--timeout", "keep_alive": "--keepalive",
        "application": "application",
    }  # fmt: skip


def test_options_may_follow_the_application() -> None:
    options = parse("m:app", "--threads", "4", "--reload", "--python-path", "a,b")
    assert options.serving.concurrency.threads == 4
    assert options.reload.use_reloader
    assert options.application.python_path == ("a", "b")


def test_the_environment_counts_unless_it_is_empty_or_overruled() -> None:
    assert parse("m", environ={"PORT": "99"}).listen.port == 99
    assert parse("m", environ={"PORT": ""}).listen.port is None
    assert parse("m", "--port", "1", environ={"PORT": "99"}).listen.port == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--thread", "4"], "did you mean '--threads'"),
        (["--threads", "many"], "--threads: expected an integer"),
        (["--threads", "0"], "--threads: must be at least 1"),
        (["a:app", "b:app"], "one application is served"),
        (["m:app", "--fd"], "quote it"),
        (["--interface", "cgi"], "--interface: expected auto, wsgi or asgi"),
    ],
)
def test_a_wrong_word_is_named(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(*words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--fd is empty.*quote it"),
        ("myapp:app", "--fd is followed by 'myapp:app'.*quote it"),
        ("$(circus.sockets.web)", "only forkserve puts a number"),
        ("((CIRCUS.sockets.web))", "only forkserve puts a number"),
    ],
)
def test_a_placeholder_that_did_not_arrive_is_explained(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_fd(text)


def test_a_descriptor_is_given_in_both_forms() -> None:
    assert (read_fd("7"), read_fd("fd://7")) == (7, 7)


@pytest.mark.parametrize("entry", list(entries()), ids=lambda entry: entry.name)
def test_what_a_backend_says_of_itself_is_sound(entry: Entry) -> None:
    traits = entry.traits
    assert traits.honours <= KNOWN
    assert traits.interfaces and Interface.AUTO not in traits.interfaces
    assert traits.concurrency
    state = state_of(traits)
    assert state.usable or state.reason


@pytest.mark.parametrize("name", ["GEVENT-PYWSGI", "gevent_pywsgi", "pywsgi"])
def test_a_backend_is_found_however_it_is_spelt(name: str) -> None:
    assert find(name).name == "gevent-pywsgi"


@pytest.mark.parametrize(
    ("name", "said"), [("eventlet", "use gevent"), ("waitres", "did you mean 'waitress'"), ("x", "there is sync")]
)
def test_an_unknown_backend_is_answered_with_another(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find(name)


def test_a_backend_without_its_library_says_how_to_get_it() -> None:
    traits = Traits(interfaces=frozenset({Interface.WSGI}), concurrency="none", requires=("no-such-thing|nor-this",))
    state = state_of(traits)
    assert (state.usable, state.reason, state.cure) == (
        False,
        "no-such-thing is not installed",
        "pip install no-such-thing",
    )


def test_each_option_that_a_backend_ignores_is_warned_of() -> None:
    entry = find("bjoern")
    options = dataclasses.replace(
        parse("m:app"), given={"threads": "--threads", "graceful_timeout": "--graceful-timeout", "backend": "-k"}
    )
    assert unhonoured(entry, options) == ["backend bjoern does not know --threads; it is ignored"]


@pytest.mark.parametrize(
    ("words", "backend"), [((), "sync"), (("--threads", "1"), "sync"), (("--threads", "4"), "threads")]
)
def test_threads_alone_choose_the_backend_that_has_them(words: tuple[str, ...], backend: str) -> None:
    prepared = prepare(parse(*words, "wsgiref.simple_server:demo_app"))
    assert prepared.entry.name == backend


@pytest.mark.parametrize(
    ("flag", "said"), [("-w", "forkserve -w N"), ("--log-config=x", "--log-file"), ("-D", "forkserve -D")]
)
def test_a_flag_of_the_masters_or_of_gunicorns_says_where_it_belongs(flag: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag.partition('=')[0]}: .*{said}"):
        parse(flag, "m:app")


def test_every_name_in_the_registry_leads_somewhere() -> None:
    assert {entry.name for entry in entries()} >= set(registry._OURS) - {"asgi"}


MODULE = """
from forkserve.backends.base import Interface, Traits

class Mine:
    traits = Traits(interfaces=frozenset({Interface.WSGI}), concurrency="one")

    def serve(self, app, listeners, run): ...

class Broken:
    traits = None
"""


def test_a_third_party_adds_a_backend_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "third_party.py").write_text(MODULE)
    info = tmp_path / "third_party-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1\n")
    points = "mine = third_party:Mine\nbroken = third_party:Broken\nabsent = third_party:Absent\n"
    (info / "entry_points.txt").write_text(f"[forkserve.backends]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (find("mine").name, find("mine").source) == ("mine", "third-party")
    assert "backend broken of third-party cannot be loaded" in caplog.text
    assert "backend absent of third-party cannot be loaded" in caplog.text
