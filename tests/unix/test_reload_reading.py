"""A configuration that takes too long to read, or that cannot be read, changes nothing and is said in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.config.load import FileSource
from forkserve.config.model import Config
from forkserve.socketpool import SocketPool
from forkserve.supervision.completion import Completion
from forkserve.supervision.events import ConfigRefused, Event
from forkserve.supervision.os.loop import Loop
from forkserve.supervision.reload.reloader import ChangePhase, Reloader
from forkserve.supervision.spawning.start import SpawnServices
from forkserve.supervision.supervisor import Supervisor
from tests.support.leases import unreadable


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def reloader_of(loop: Loop, path: Path, events: list[Event], timeout: float) -> Reloader:
    pool = SocketPool([])
    services = SpawnServices(loop, pool.fd, emit=events.append)
    supervisor = Supervisor(Config(), pool, services, inherited={})
    return Reloader(supervisor, FileSource(str(path)), loop, timeout=timeout)


def finished(loop: Loop, *completions: Completion) -> None:
    while not all(each.done for each in completions):
        loop.run_once()
    os.waitpid(-1, 0)


def test_a_reading_that_takes_too_long_is_refused(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "a.ini").touch()
    events: list[Event] = []
    reloader = reloader_of(loop, tmp_path / "a.ini", events, 0.1)
    with unreadable(tmp_path / "a.ini"):
        completion = reloader.request()
        finished(loop, completion)

    assert str(completion.error) == "reading the configuration took longer than 0.1 s"
    assert events == [ConfigRefused(reason=str(completion.error))]
    assert reloader.phase is ChangePhase.IDLE


def test_a_configuration_without_a_watcher_is_refused(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[socket:web]\nport = 0\n")
    reloader = reloader_of(loop, tmp_path / "a.ini", [], 20)
    completion = reloader.request()
    finished(loop, completion)

    assert "no watcher, nothing to run" in str(completion.error)


def test_a_stop_ends_the_reading_and_all_that_was_asked_for(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "a.ini").touch()
    reloader = reloader_of(loop, tmp_path / "a.ini", [], 20)
    with unreadable(tmp_path / "a.ini"):
        completions = [reloader.request(), reloader.request(), reloader.request(processes=False)]
        reloader.cancel()
        finished(loop, *completions)

    assert {str(each.error) for each in completions} == {"forkserve is stopping"}
    assert not reloader.is_busy


def test_no_descriptor_for_the_helper_is_a_refusal(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", no_more)
    completion = reloader_of(loop, tmp_path / "a.ini", [], 20).request()

    assert str(completion.error) == "no process can be started to read the configuration: Too many open files"
