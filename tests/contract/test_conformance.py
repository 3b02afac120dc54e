"""Our own backends pass every suite that is shipped for the authors of others; and the suites do see faults."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from forkserve.backends.base import Interface
from forkserve.backends.registry import entries, find, state_of
from forkserve.testing import SUITES, Fault, Outcome, SuiteReport, check_backend
from forkserve.testing.matrix import markdown
from forkserve.testing.running import run_suite

OURS = ("sync", "threads", "gevent", "asgi")
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "conformance.md"
# The engine's own contract has run the corpus under its WSGI backends already.
CORPUS = ("valid", "invalid")
CASES = [
    pytest.param(
        backend,
        suite,
        id=f"{backend}-{suite}",
        marks=[pytest.mark.slow] if suite in CORPUS and backend != "asgi" else [],
    )
    for backend in OURS
    for suite in SUITES
    if SUITES[suite].interface in (None, *find(backend).traits.interfaces)
]


@pytest.mark.parametrize(("backend", "suite"), CASES)
def test_a_backend_of_ours_passes(backend: str, suite: str) -> None:
    state = state_of(find(backend).traits)
    if not state.usable:
        pytest.skip(f"{backend} cannot serve here: {state.reason}")
    for report in check_backend(backend, suites=(suite,)):
        assert report.outcomes
        assert not report.failures, str(report)


@pytest.mark.slow
def test_a_lenient_server_is_found_out() -> None:
    report = run_suite("wsgiref", Interface.WSGI, "http")
    failed = {each.name for each in report.failures}
    assert "A connection is kept for the next request" in failed
    assert "The path is decoded, the query is not" not in failed


def test_the_matrix_shows_counts_dangers_and_reasons() -> None:
    outcomes = (Outcome("held"), Outcome("two lengths", "served with 200", Fault.SMUGGLING))
    text = markdown([SuiteReport("wsgiref", "wsgi", "invalid", outcomes)])
    assert f"| `wsgiref` (wsgi) | {platform.python_version().rpartition('.')[0]} | 1/2 | smuggling: 1 |" in text
    assert "- two lengths: `served with 200`" in text
    assert markdown([SuiteReport("sync", "wsgi", "stop", (Outcome("held"),))]).endswith("## What does not hold\n")


def test_the_published_matrix_knows_every_backend_that_serves_anywhere() -> None:
    text = DOCUMENT.read_text()
    for entry in entries():
        if entry.source.startswith("forkserve.") and entry.name != "meinheld":
            assert f"| `{entry.name}` (" in text, f"run: python -m forkserve.testing --markdown {DOCUMENT.name}"
