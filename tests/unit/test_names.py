"""Names of classes stand once in the package, and words to be avoided nowhere; the check itself finds both."""

import re
from pathlib import Path

import pytest

from tests import names


def test_each_name_of_a_class_stands_once_in_the_package() -> None:
    assert names.repeated(names.ROOT / "forkserve") == []
    assert names.needless(names.ALLOWED, names.ROOT / "forkserve") == []


def test_words_to_be_avoided_stand_nowhere() -> None:
    assert names.worded(names.texts(names.ROOT)) == []


def test_a_second_class_of_the_same_name_is_found_with_both_places(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "one.py").write_text("class Order:\n    pass\n\n\nclass _Private:\n    pass\n")
    (package / "two.py").write_text("class _Private:\n    pass\n\n\ndef make():\n    class Order:\n        pass\n")
    assert names.repeated(package) == ["class Order stands in package/one.py:1, package/two.py:6: qualify the name"]


def test_an_allowance_that_is_not_needed_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Order:\n    pass\n")
    assert len(names.needless({"Order": "a reason", "Gone": "a reason"}, tmp_path)) == 2


def test_a_word_to_be_avoided_is_found_but_not_the_verb(tmp_path: Path) -> None:
    text = tmp_path / "text.md"
    text.write_text(
        "It cannot know that.\nKnow that it is so.\nWhoever reads it.\nIt is opened anew.\nA house of its own.\n"
    )
    assert [line.split(":")[1] for line in names.worded([text])] == ["2", "3", "4", "5"]


@pytest.mark.parametrize(("heading", "folder"), [("Supervision", "supervision"), ("Serving", "serving")])
def test_the_architecture_page_lists_the_modules_that_exist(heading: str, folder: str) -> None:
    page = (names.ROOT / "docs" / "architecture.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    package = names.ROOT / "forkserve" / folder
    parts = [package, package / "engine"] if folder == "serving" else [package]
    there = {entry.stem for part in parts for entry in part.glob("[a-z]*") if entry.is_dir() or entry.suffix == ".py"}
    assert listed == there
