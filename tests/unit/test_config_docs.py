"""The files shown in docs/configuration.md and README.md are good ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forkserve.config.build import build
from forkserve.config.document import Findings
from forkserve.config.ini import read_ini
from forkserve.config.toml import read_toml

ROOT = Path(__file__).parent.parent.parent
SHOWN = [
    pytest.param(kind, body, id=f"{name} {number}")
    for name in ("docs/configuration.md", "README.md")
    for number, (kind, body) in enumerate(
        re.findall(r"^```(ini|toml)\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL), start=1
    )
]


@pytest.mark.parametrize(("kind", "body"), SHOWN)
def test_a_file_shown_in_the_documentation_is_good(kind: str, body: str) -> None:
    findings = Findings()
    sections = (read_ini if kind == "ini" else read_toml)(body, "shown", findings)
    build(sections, {}, findings)
    assert (findings.errors, findings.warnings) == ((), ())
