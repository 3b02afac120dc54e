"""Text from the other side made safe for a terminal or a log: no control characters, which could move or hide
things.
"""

from __future__ import annotations

from typing import Any

__all__ = ["printable", "printable_answer"]


def printable(text: str) -> str:
    r"""Return `text` with unprintable characters as escapes, `\x1b`; line ends stay."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def printable_answer(answer: Any) -> Any:
    """Return plain data with all its text, names included, made printable, within a line."""
    if isinstance(answer, str):
        return printable(answer).replace("\n", "\\n")
    if isinstance(answer, list):
        return [printable_answer(each) for each in answer]
    if isinstance(answer, dict):
        return {printable_answer(key): printable_answer(value) for key, value in answer.items()}
    return answer
