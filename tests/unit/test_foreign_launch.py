"""The command line that a worker under another interpreter gets, and what its modules may contain."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from forkserve.backends.other_python.launch import FOLDER, command_line
from forkserve.config.launch import ApplicationOptions, ProcessOptions, WorkerOptions
from forkserve.errors import UsageError

OPTIONS = WorkerOptions(
    application=ApplicationOptions(application="shop.wsgi:app", python_path=("/srv",), chdir="/srv", factory=True),
    process=ProcessOptions(backend="meinheld", python="/opt/python3.9"),
)
FOREIGN = sorted(path for path in FOLDER.glob("*.py") if path.name != "launch.py")


def test_every_option_a_foreign_worker_knows_is_handed_over() -> None:
    words = command_line("/opt/python3.9", OPTIONS, [7, 9], "forkserve: worker web[1]")
    assert words[:2] == ["/opt/python3.9", str(FOLDER)]
    assert words[-1] == "shop.wsgi:app"
    text = " ".join(words)
    assert "--backend meinheld" in text
    assert "--fd 7 --fd 9" in text
    assert "--python-path /srv --chdir /srv --factory" in text
    assert "--graceful-timeout 30.0 --keep-alive 75.0" in text


@pytest.mark.parametrize("backend", [None, "uvicorn"])
def test_a_backend_that_no_foreign_worker_has_is_refused_with_those_it_has(backend: str | None) -> None:
    options = replace(OPTIONS, process=ProcessOptions(backend=backend))
    with pytest.raises(UsageError, match="bjoern, gevent, meinheld, waitress, wsgiref"):
        command_line("python", options, [3], "")


def test_a_paste_application_is_refused() -> None:
    options = replace(OPTIONS, application=ApplicationOptions(config="site.ini"))
    with pytest.raises(UsageError, match="module:attr"):
        command_line("python", options, [3], "")


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.name)
def test_a_foreign_module_is_python_3_8_and_imports_nothing_of_forkserve(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name.split(".")[0] == "forkserve"]
