"""Our own loggers, and how their lines look."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

import forkserve
from forkserve.logs import PARTS, LineFormatter
from forkserve.supervision.events import KINDS


def test_all_loggers_of_ours_are_known() -> None:
    """What `logging.config` does to those that are not is seen by no other test."""
    folder = Path(forkserve.__file__).parent
    found = set()
    for path in folder.rglob("*.py"):
        for name in re.findall(r'getLogger\((?:"forkserve\.(\w+)"|__name__)\)', path.read_text()):
            found.add(name or path.stem)
    found |= {event.channel for event in KINDS.values()}
    assert found == set(PARTS)


def test_nothing_of_ours_uses_the_root_logger() -> None:
    for path in Path(forkserve.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"getLogger\(\)|logging\.root|raiseExceptions =|basicConfig", text), path


def formatted(message: str, error: BaseException | None = None, stack: str | None = None) -> str:
    info = (type(error), error, None) if error is not None else None
    record = logging.LogRecord("n", logging.ERROR, "", 0, message, None, info, None, stack)
    return LineFormatter("%(name)s: %(message)s").format(record)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb", r"a\r\nb"),
        ("\x9b", r"\x9b"),
        ("\x7f", r"\x7f"),
        ("\udc80", r"\udc80"),
        ("ä\t€", "ä\t€"),
    ],
)
def test_a_message_is_one_line_without_control_characters(raw: str, shown: str) -> None:
    assert formatted(raw) == f"n: {shown}"


def test_a_traceback_keeps_its_lines_only() -> None:
    assert formatted("m", ValueError("a\x1b\nb\r")) == "n: m\nValueError: a\\x1b\n    b\\r"
    assert formatted("m", stack='File "x"\n  y\x07') == 'n: m\nFile "x"\n  y\\x07'


def test_what_an_exception_says_forges_no_line() -> None:
    error, cause = ValueError("one\n2026-11-27 ERROR two"), KeyError("a")
    error.__cause__, cause.__context__ = cause, RuntimeError("\nthree\n\nfour")
    lines = formatted("m", error).splitlines()
    assert [line for line in lines if line.lstrip().startswith(("2026", "three", "four"))] == [
        "    three", "    four", "    2026-11-27 ERROR two",
    ]  # fmt: skip


def test_a_traceback_that_another_handler_has_formatted_is_escaped_as_well() -> None:
    error = ValueError("\x1b")
    record = logging.LogRecord("n", logging.ERROR, "", 0, "m", None, (ValueError, error, None))
    logging.Formatter().format(record)
    assert "\x1b" in (record.exc_text or "")
    assert LineFormatter("%(message)s").format(record) == "m\nValueError: \\x1b"
