"""The contracts of the layout break where they should: each case adds one import that the layout forbids."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HOLES = [
    ("worker.py", "import forkserve.supervision.auxiliaries", "Serving never imports supervision"),
    ("worker.py", "import forkserve.supervision.spawning.command", "Serving never imports supervision"),
    ("serving/application/target.py", "import forkserve.socketpool", "Serving never imports supervision"),
    ("supervision/watcher.py", "import forkserve.serving.engine.driver", "Supervision never imports serving"),
    ("logwriter/server.py", "import forkserve.wsgi", "Supervision never imports serving"),
    ("serving/http/line.py", "import os", "The pure layers do no I/O"),
    ("serving/http/line.py", "import time", "The pure layers do no I/O"),
    ("serving/http/line.py", "import mmap", "The pure layers do no I/O"),
    ("serving/http/line.py", "import ssl", "The pure layers do no I/O"),
    ("serving/engine/fairness.py", "import socket", "Decisions of the engine are pure"),
    ("supervision/events/base.py", "import socket", "The pure layers do no I/O"),
    ("supervision/jobs/rolling.py", "import time", "The pure layers do no I/O"),
    ("backends/sync.py", "import forkserve.backends.threads", "Backends are independent of each other"),
    ("backends/adapters/tornado.py", "import forkserve.backends.adapters.waitress", "Backends are independent"),
    ("master.py", "import httptools", "The master stands on the standard library and a small core"),
    ("supervision/reload/plan.py", "import forkserve.supervision.reload.reloader", "No package has a cycle inside"),
    ("config/values.py", "import forkserve.config.load", "No package has a cycle inside"),
    ("serving/engine/connection.py", "import forkserve.serving.engine.driver", "No package has a cycle inside"),
    ("util.py", "VALUE = 1", "Layers point downwards"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    shutil.copytree(ROOT / "forkserve", folder / "forkserve", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _lint(folder: Path) -> str:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--cache-dir", str(folder / "cache")]
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert outcome.returncode in (0, 1), outcome.stdout + outcome.stderr
    return outcome.stdout


def test_the_layout_as_it_is_keeps_every_contract(copy: Path) -> None:
    assert "0 broken" in _lint(copy)


@pytest.mark.parametrize(("module", "line", "contract"), HOLES, ids=lambda value: str(value)[:40])
def test_an_import_that_the_layout_forbids_is_found(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "forkserve" / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        said = _lint(copy)
    finally:
        path.write_text(before) if before is not None else path.unlink()
    broken = [each for each in said.splitlines() if each.endswith("BROKEN") or "BROKEN (" in each]
    assert any(each.startswith(contract) for each in broken), said[-1500:]
