"""What is kept of the last output: bounded, in order, and fair to processes that say little."""

from __future__ import annotations

from forkserve.cli.following import safe
from forkserve.logwriter.lastoutput import EACH, LastOutput


def texts(output: LastOutput, count: int | None = None, name: str | None = None) -> list[bytes]:
    return [line for each in output.last(count, name) for line in each.lines]


def test_lines_of_several_processes_come_back_in_the_order_of_their_writing() -> None:
    output = LastOutput(4096)
    output.add("web[1]", 11, [b"a", b"b"], is_stderr=False, at=1.0)
    output.add("web[2]", 12, [b"c"], is_stderr=True, at=2.0)
    output.add("web[1]", 11, [b"d"], is_stderr=False, at=3.0)

    assert texts(output) == [b"a", b"b", b"c", b"d"]
    assert texts(output, 2) == [b"c", b"d"]
    assert texts(output, 0) == []
    assert texts(output, None, "web[1]") == [b"a", b"b", b"d"]
    assert texts(output, 1, "web[2]") == [b"c"]
    assert texts(output, 9, "web[3]") == []


def test_no_more_is_kept_than_the_limit_and_empty_lines_count() -> None:
    output = LastOutput(100 * EACH)
    for number in range(5000):
        output.add("web[1]", 11, [b""], is_stderr=False, at=float(number))
        assert output.size <= output.limit

    kept = output.last()
    assert [each.at for each in kept] == [float(number) for number in range(5000 - len(kept), 5000)]
    assert len(kept) >= 70


def test_a_talkative_process_does_not_push_out_the_last_words_of_another() -> None:
    output = LastOutput(8192)
    output.add("web[1]", 11, [b"Traceback", b"KeyError"], is_stderr=True, at=0.0)
    for number in range(1000):
        output.add("web[2]", 12, [b"%d" % number], is_stderr=False, at=1.0)
        output.add("web[3]", 13, [b"%d" % number], is_stderr=False, at=1.0)

    assert texts(output, None, "web[1]") == [b"Traceback", b"KeyError"]
    assert texts(output)[-2:] == [b"999", b"999"]
    assert texts(output, None, "web[2]")[-20:] == [b"%d" % number for number in range(980, 1000)]


def test_one_line_that_is_larger_than_the_limit_is_not_kept() -> None:
    output = LastOutput(1000)
    output.add("web[1]", 11, [b"x" * 2000], is_stderr=False, at=0.0)
    output.add("web[1]", 11, [b"y"], is_stderr=False, at=0.0)

    assert texts(output) == [b"y"]


def test_a_smaller_limit_holds_from_the_next_line_on() -> None:
    output = LastOutput(100_000)
    output.add("web[1]", 11, [b"x"] * 100, is_stderr=False, at=0.0)
    output.limit = 10 * (EACH + 1)
    output.add("web[1]", 11, [b"y"], is_stderr=False, at=0.0)

    assert output.size <= output.limit
    assert texts(output)[-1] == b"y"


def test_control_characters_of_output_are_escaped_and_tabs_stay() -> None:
    assert safe("a\tb\x1b[2J\x07\u202e") == "a\tb\\x1b[2J\\x07\\u202e"
