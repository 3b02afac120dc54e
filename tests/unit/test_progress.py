"""What is told while a verb is awaited, when no watcher has anything to tell."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from forkserve.cli import progress


def test_a_verb_without_words_for_its_progress_is_told_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    said = ""
    deadline = time.monotonic() + 20
    with progress.progress(tmp_path / "none.sock", "upgrade"):
        while said.count("\n") < 2:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
            said += capsys.readouterr().err

    assert said.splitlines()[:2] == ["upgrade: not done yet, 0 s so far"] * 2
