"""Every verb, and every word of its line, has a text in the help and a place in docs/operations.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forkserve.cli.commandline import CommandLine, command_line
from forkserve.cli.ctlparser import ctl_parser
from forkserve.cli.ownverbs import ALL_VERBS

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("verb", command_line(ctl_parser()).verbs, ids=lambda verb: verb.name)
def test_each_word_and_each_flag_of_a_verb_is_explained(verb: CommandLine) -> None:
    assert [word.name for word in verb.words if not word.help] == []
    assert [flag.names for flag in verb.flags if not flag.help] == []


@pytest.mark.parametrize("name", ALL_VERBS)
def test_each_verb_is_in_the_page_on_operations(name: str) -> None:
    examples = "\n".join(re.findall(r"^    .*$|`[^`]+`", OPERATIONS, re.MULTILINE))
    assert re.search(rf"(?<![\w.-]){name}(?![\w.-])", examples), f"docs/operations.md does not show {name}"
