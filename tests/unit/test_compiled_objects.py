"""The objects of the compiled part are whole from the beginning, and refuse when the collector has cleared them."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from forkserve.serving.native import hot

pytestmark = pytest.mark.skipif(hot is None, reason="forkserve goes without its compiled part here")

CLEAR = 51
"""Py_tp_clear of Include/typeslots.h."""
LINES: list[str] = []


class Log:
    roused = True


def clear(thing: Any) -> None:
    """Clear an object as the collector clears one in a cycle, while somebody still has it."""
    slot = ctypes.pythonapi.PyType_GetSlot
    slot.restype, slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(slot(type(thing), CLEAR))
    assert function(thing) == 0


def writer() -> Any:
    stem: dict[object, str] = {("line", 200, 5): "a line"}
    return hot.Writer(Log(), lambda key: stem, None, LINES)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["ReadyQueue", "Caller", "Sender", "Writer"])
def test_none_is_made_that_is_not_whole(name: str) -> None:
    kind = getattr(hot, name)
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        kind.__new__(kind)


def test_a_writer_that_was_cleared_refuses() -> None:
    write = writer()
    write("address", "line", object(), 200, 5)
    assert LINES == ["a line"]
    clear(write)
    with pytest.raises(RuntimeError, match="cleared"):
        write("address", "line", object(), 200, 5)


def test_a_line_is_written_that_asks_for_another() -> None:
    lines: list[str] = []

    class Stem(dict[Any, str]):
        def __missing__(self, key: Any) -> str:
            if key[0] == "outer":
                for _ in range(3):
                    write("other", "inner", object(), 200, 5)
            return str(key[0])

    write = hot.Writer(Log(), lambda key: None, lambda *_: Stem(), lines)  # type: ignore[union-attr]
    write("address", "outer", object(), 200, 5)
    assert lines == ["inner", "inner", "inner", "outer"]


def test_how_often_shortcuts_were_taken_is_counted() -> None:
    write, fields = writer(), object()
    before = hot.taken()["log_line"]  # type: ignore[union-attr]
    for _ in range(300):
        write("address", "line", fields, 200, 5)
    after = hot.taken()  # type: ignore[union-attr]
    assert after["log_line"] - before >= 290
    assert set(after) == {
        "known_head", "new_head", "known_environ", "new_environ", "start", "answer", "reply", "log_line",
    }  # fmt: skip
