"""The declarations of the verbs: each has a function, and parameters that every face can offer."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import msgspec
import pytest

from forkserve.control.commands.table import COMMANDS
from forkserve.control.openapi import document, page
from forkserve.control.verbs import VERBS, Verb


def test_every_verb_has_a_function_and_every_function_a_verb() -> None:
    assert list(COMMANDS) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_words_are_parameters_and_the_summary_is_a_sentence(verb: Verb) -> None:
    names = [each.name for each in msgspec.structs.fields(verb.parameters)]

    assert [each for each in verb.words if each not in names] == []
    assert verb.summary.endswith(".")


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_parameters_can_be_read(verb: Verb) -> None:
    given = {field.name: _example(field.type) for field in msgspec.structs.fields(verb.parameters)}

    assert msgspec.convert(given, verb.parameters, strict=False) is not None


def _example(wanted: object) -> object:
    """Return a value that fits a declared type."""
    kind = msgspec.inspect.type_info(wanted)
    kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    words = kind.values if isinstance(kind, msgspec.inspect.LiteralType) else ()
    for value in (*words, True, 1, "x", ["x"], {}):
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(value, wanted)
    raise AssertionError(wanted)


def test_the_api_is_described_by_the_declarations() -> None:
    found = document()
    text = json.dumps(found)

    assert list(found["paths"]) == [f"/v1/{name}" for name in VERBS]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= set(found["components"]["schemas"])
    assert "get" in found["paths"]["/v1/status"] and "get" not in found["paths"]["/v1/stop"]


def test_the_page_of_the_api_is_the_one_that_is_made() -> None:
    written = (Path(__file__).parents[2] / "docs" / "api.md").read_text()

    assert written == page(), "run: python -m forkserve.control.openapi > docs/api.md"
