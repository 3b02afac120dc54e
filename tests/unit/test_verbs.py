"""The declarations of the verbs: each has a function, and parameters that every face can offer."""

from __future__ import annotations

import msgspec
import pytest

from forkserve.control.commands import COMMANDS
from forkserve.control.verbs import VERBS, Verb


def test_every_verb_has_a_function_and_every_function_a_verb() -> None:
    assert list(COMMANDS) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_words_are_parameters_and_the_summary_is_a_sentence(verb: Verb) -> None:
    names = [each.name for each in msgspec.structs.fields(verb.parameters)]

    assert [each for each in verb.words if each not in names] == []
    assert verb.summary.endswith(".")
