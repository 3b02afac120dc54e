"""Where the control socket goes, and where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkserve.control.place import default_path


@pytest.fixture(autouse=True)
def working_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return folder


def test_the_runtime_folder_comes_first_and_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = default_path("/srv/site.toml")
    assert path is not None
    assert path.parent == tmp_path / "forkserve"
    assert path.name.startswith("site-")
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("runtime", ["/proc", "{tmp}/" + "x" * 100, "relative", "/dev/null"])
def test_a_place_that_cannot_be_had_is_passed_over(
    runtime: str, tmp_path: Path, working_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = runtime.format(tmp=tmp_path)
    if chosen.startswith(str(tmp_path)):
        Path(chosen).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", chosen)
    path = default_path(None)
    assert path is not None
    assert not path.is_relative_to(chosen)
    assert list(working_dir.iterdir()) == []


def test_where_nothing_can_be_written_there_is_none(working_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/proc")
    assert default_path(None, shared=("/proc", "/proc")) is None
    assert list(working_dir.iterdir()) == []
