"""The edits of meinheld's source: their application, on small made-up sources, and the decisions around a build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forkserve.backends.meinheld.build import missing_tool
from forkserve.backends.meinheld.edits import EDITS, LOCAL_VERSION, Edit, apply_edits
from forkserve.backends.other_python.meinheld_loop import refusal
from forkserve.errors import BackendError


def test_an_edit_replaces_each_match_and_leaves_the_input_alone() -> None:
    sources = {"a.c": "call_old(x); call_old(y);", "b.c": "call_old(z);"}
    edited = apply_edits(sources, [Edit("a.c", r"call_old\(", "call_new(", "removed", times=2)])
    assert edited == {"a.c": "call_new(x); call_new(y);", "b.c": "call_old(z);"}
    assert sources["a.c"] == "call_old(x); call_old(y);"


def test_edits_of_one_file_build_on_each_other() -> None:
    edits = [Edit("a.c", "one", "two", "first"), Edit("a.c", "two", "three", "second")]
    assert apply_edits({"a.c": "one"}, edits) == {"a.c": "three"}


def test_a_put_can_keep_what_was_found() -> None:
    edit = Edit("a.h", r"#include <a\.h>", r"\g<0>\n#include <b.h>", "needs b")
    assert apply_edits({"a.h": "#include <a.h>\n"}, [edit]) == {"a.h": "#include <a.h>\n#include <b.h>\n"}


@pytest.mark.parametrize(("text", "found"), [("nothing", 0), ("old old", 2)])
def test_an_edit_that_is_not_found_as_often_as_it_says_stops_everything(text: str, found: int) -> None:
    with pytest.raises(BackendError, match=rf"a\.c: 'old' found {found} times, expected 1"):
        apply_edits({"a.c": text}, [Edit("a.c", "old", "new", "why")])


def test_a_missing_file_stops_everything() -> None:
    with pytest.raises(BackendError, match=r"no b\.c"):
        apply_edits({"a.c": ""}, [Edit("b.c", "old", "new", "why")])


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.file}:{edit.find[:20]}")
def test_every_edit_compiles_says_why_and_quotes_one_line_at_most(edit: Edit) -> None:
    re.compile(edit.find)
    assert len(edit.why) > 5
    assert len(edit.find) < 80


def test_the_mended_version_is_newer_than_the_original_and_tells_itself_apart() -> None:
    assert LOCAL_VERSION == "1.0.2+forkserve.1"


@pytest.mark.parametrize(
    ("python", "version", "greenlet", "with_greenlet", "reason"),
    [
        ((3, 13), LOCAL_VERSION, "3.5.6", True, None),
        ((3, 9), LOCAL_VERSION, "3.1.0", True, None),
        ((3, 9), "1.0.2", "0.4.17", True, None),
        ((3, 8), "1.0.2", "0.4.17", True, None),
        ((3, 9), "1.0.2", "3.1.0", True, "needs greenlet<0.5, here is 3.1.0"),
        ((3, 10), "1.0.2", "0.4.17", True, "on Python 3.10"),
        ((3, 12), "1.0.2", "3.5.6", True, "on Python 3.12"),
        ((3, 9), "0.5", "0.4.17", True, "0.5 is not 1.0.2"),
        ((3, 9), "1.0.2", "0", False, "MEINHELD_NOGREEN"),
        ((3, 13), LOCAL_VERSION, "0", False, "MEINHELD_NOGREEN"),
    ],
)
def test_only_a_combination_known_to_serve_is_let_through(
    python: tuple[int, int], version: str, greenlet: str, with_greenlet: bool, reason: str | None
) -> None:
    answer = refusal(python, version, greenlet, with_greenlet)
    assert (answer is None) if reason is None else (answer is not None and reason in answer)


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        ({}, None),
        ({"implementation": "PyPy"}, "CPython"),
        ({"system": "Darwin"}, "Linux only"),
        ({"pip": False}, "uv pip install pip"),
        ({"compiler": None}, "apt-get install gcc"),
        ({"header": False}, "python3-dev"),
    ],
)
def test_what_a_build_lacks_is_said_with_its_cure(lacking: dict[str, object], says: str | None) -> None:
    machine: dict[str, object] = {
        "implementation": "CPython", "system": "Linux", "pip": True, "compiler": "/usr/bin/cc", "header": True,
    }  # fmt: skip
    answer = missing_tool(**(machine | lacking))  # type: ignore[arg-type]
    assert (answer is None) if says is None else (answer is not None and says in answer)


def test_the_documentation_lists_every_edit_in_order() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "meinheld.md").read_text()
    rows = [f"| `{edit.file.rpartition('/')[2]}` | {edit.why} |" for edit in EDITS]
    assert f"{len(EDITS)} edits:" in text
    assert "\n".join(rows) in text
