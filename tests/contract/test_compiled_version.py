"""A compiled part that does not fit this code is left out, and the log says so."""

from __future__ import annotations

import hashlib
import importlib
import re
import signal
from pathlib import Path

import pytest

import forkserve.serving.native as native
from tests.support.serving import serving

FOLDER = Path(__file__).parent
SHARED = "ccc89227d0a76b32"
"""The names and formats that C shares with Python, as a digest; if it changes, so must `INTERFACE` on both sides."""


def shared() -> str:
    sources = sorted(Path(native.__file__).parent.glob("*.c"))
    literals = {each for path in sources for each in re.findall(r'"([A-Za-z_][\w.|$:()!]*)"', path.read_text())}
    return hashlib.sha256("\n".join(sorted(literals)).encode()).hexdigest()[:16]


def test_what_c_and_python_share_has_its_number() -> None:
    message = f"raise INTERFACE in native/__init__.py and module.c, since C shares other names now: {shared()}"
    assert shared() == SHARED, message


@pytest.mark.skipif(native.hot is None, reason="forkserve goes without its compiled part here")
def test_both_sides_have_the_same_number() -> None:
    assert importlib.import_module("forkserve.serving.native._hot").INTERFACE == native.INTERFACE


@pytest.mark.parametrize(("backend", "number"), [("sync", ""), ("asgi", "INTERFACE = 0")])
def test_a_stale_compiled_part_is_left_out_with_one_line(backend: str, number: str, tmp_path: Path) -> None:
    # The module of an older tree is found where the compiled one is looked for.
    (tmp_path / "stale.py").write_text(number)
    (tmp_path / "sitecustomize.py").write_text(
        "import stale, sys\nsys.modules['forkserve.serving.native._hot'] = stale\n"
    )
    environ = {"PYTHONPATH": str(tmp_path), "FORKSERVE_PURE": ""}
    app = "asgi_app:app" if backend == "asgi" else "engine_app:app"
    with serving(["--backend", backend, app], folder=FOLDER, environ=environ) as worker:
        assert worker.request("GET", "/hello")[0].status == 200
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert worker.log.count(b"is of another version than this forkserve") == 1
    assert str(tmp_path / "stale.py").encode() in worker.log and b"pip install" in worker.log
    assert b"Traceback" not in worker.log
