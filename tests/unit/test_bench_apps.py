"""The applications of the comparison answer under every way of running them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APPS = Path(__file__).parents[2] / "bench" / "apps"
ASK = "import historic; print([b''.join(historic.{app}({{}}, lambda status, headers: None)) for _ in range(12)])"
PATCH = "from gevent import monkey; monkey.patch_all(); "


@pytest.mark.parametrize("patch", ["", PATCH], ids=["threads", "gevent"])
@pytest.mark.parametrize(("app", "answer"), [("first", "b'0."), ("second", "A page from the database")])
def test_both_benches_of_2012_answer_also_where_gevent_has_patched_threads(app: str, answer: str, patch: str) -> None:
    command = [sys.executable, "-c", patch + ASK.format(app=app)]
    done = subprocess.run(command, cwd=APPS, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.count(answer) == 12, done.stderr
