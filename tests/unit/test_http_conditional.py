"""Conditional and range requests."""

from __future__ import annotations

import pytest

from forkserve.serving.http.conditional import Conditions, Selection, etag_of, select
from forkserve.serving.http.dates import date_text, parse_date

MODIFIED = 784111777
ETAG = etag_of(MODIFIED * 10**9, 100)
DATE = date_text(MODIFIED)
LATER = date_text(MODIFIED + 1)
EARLIER = date_text(MODIFIED - 1)
WHOLE = Selection(200, 0, 100)


def decide(method: str = "GET", **fields: str) -> Selection:
    return select(Conditions(**fields), method=method, etag=ETAG, modified=MODIFIED, size=100)


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_three_forms_of_a_date_are_read(text: str) -> None:
    assert parse_date(text) == MODIFIED


@pytest.mark.parametrize(
    "text",
    ["", "x", "Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "0"],
)
def test_other_dates_are_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": f'"a", W/{ETAG}'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"a"'}, 200),
        ({"if_none_match": '"a"', "if_modified_since": DATE}, 200),
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": LATER}, 304),
        ({"if_modified_since": EARLIER}, 200),
        ({"if_modified_since": "nonsense"}, 200),
        ({"if_match": ETAG}, 200),
        ({"if_match": f"W/{ETAG}"}, 412),
        ({"if_match": '"a"'}, 412),
        ({"if_match": "*"}, 200),
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": EARLIER}, 412),
        ({"if_match": ETAG, "if_unmodified_since": EARLIER}, 200),
    ],
)
def test_preconditions_are_weighed_in_order(fields: dict[str, str], status: int) -> None:
    assert decide(**fields).status == status


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", Selection(206, 0, 1)),
        ("bytes=10-19", Selection(206, 10, 20)),
        ("bytes=10-", Selection(206, 10, 100)),
        ("bytes=-10", Selection(206, 90, 100)),
        ("bytes=-1000", Selection(206, 0, 100)),
        ("bytes=90-1000", Selection(206, 90, 100)),
        ("BYTES=0-1", Selection(206, 0, 2)),
        ("bytes=100-", Selection(416, 0, 0)),
        ("bytes=-0", Selection(416, 0, 0)),
        ("bytes=5-4", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("lines=0-1", WHOLE),
        ("bytes=\u0660-\u0665", WHOLE),
    ],
)
def test_one_range_is_served(value: str, expected: Selection) -> None:
    assert decide(range=value) == expected


def test_range_needs_get_and_a_right_if_range() -> None:
    assert decide("HEAD", range="bytes=0-1") == WHOLE
    assert decide(range="bytes=0-1", if_range=ETAG).status == 206
    assert decide(range="bytes=0-1", if_range=f"W/{ETAG}") == WHOLE
    assert decide(range="bytes=0-1", if_range=DATE).status == 206
    assert decide(range="bytes=0-1", if_range=LATER) == WHOLE


def test_content_range_says_what_is_sent() -> None:
    assert decide(range="bytes=10-19").content_range(100) == "bytes 10-19/100"
    assert decide(range="bytes=100-").content_range(100) == "bytes */100"
    assert WHOLE.content_range(100) is None


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("0", "9" * 30, (206, 0, 100)),
        ("1", "9" * 8000, (206, 1, 100)),
        ("", "9" * 8000, (206, 0, 100)),
        ("0" * 8000 + "5", "0" * 50 + "9", (206, 5, 10)),
        ("0" * 50, "0" * 50, (206, 0, 1)),
        ("9" * 8000, "", (416, 0, 0)),
        ("9" * 30, "9" * 31, (416, 0, 0)),
        # The last before the first: not a range at all.
        ("9" * 8000, "9" * 7999 + "8", (200, 0, 100)),
    ],
)
def test_numbers_of_a_range_have_any_length(first: str, last: str, expected: tuple[int, int, int]) -> None:
    assert decide(range=f"bytes={first}-{last}") == Selection(*expected)
