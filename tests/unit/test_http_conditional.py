"""Conditional and range requests."""

from __future__ import annotations

from datetime import UTC, datetime

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
    [
        "",
        "x",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 10000 08:49:37 GMT",
        f"Sun, 06 Nov {'9' * 5000} 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 31-Feb-94 08:49:37 GMT",
        "Sunday, 06-Foo-94 08:49:37 GMT",
        "Sunday, 06-Nov-\u0669\u0664 08:49:37 GMT",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  0 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT,Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_other_dates_are_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("year", "text", "full"),
    [
        (2026, "Saturday, 28-Nov-26 12:00:00 GMT", "Sat, 28 Nov 2026 12:00:00 GMT"),
        (2026, "Saturday, 28-Nov-76 12:00:00 GMT", "Sat, 28 Nov 2076 12:00:00 GMT"),
        (2026, "Sunday, 28-Nov-76 12:00:01 GMT", "Sun, 28 Nov 1976 12:00:01 GMT"),
        (2026, "Friday, 01-Jan-77 00:00:00 GMT", "Sat, 01 Jan 1977 00:00:00 GMT"),
        (2026, "Saturday, 01-Jan-00 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"),
        (2090, "Monday, 28-Nov-95 12:00:00 GMT", "Mon, 28 Nov 2095 12:00:00 GMT"),
        (2090, "Friday, 28-Nov-10 12:00:00 GMT", "Fri, 28 Nov 2110 12:00:00 GMT"),
    ],
)
def test_year_of_two_digits_is_at_most_50_years_in_the_future(year: int, text: str, full: str) -> None:
    now = datetime(year, 11, 28, 12, 0, 0, tzinfo=UTC).timestamp()

    found = parse_date(text, lambda: now)

    assert found is not None
    assert date_text(found) == full


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("Thu, 01 Jan 0050 00:00:00 GMT", datetime(50, 1, 1, tzinfo=UTC)),
        ("Thu Jan  1 00:00:00 0001", datetime(1, 1, 1, tzinfo=UTC)),
        ("Fri, 31 Dec 9999 23:59:60 GMT", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_year_of_four_digits_is_taken_as_it_is(text: str, full: datetime) -> None:
    assert parse_date(text) == full.timestamp()


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
        ({"if_modified_since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 304),
        ({"if_modified_since": "Sun Nov  6 08:49:36 1994"}, 200),
        ({"if_match": ETAG}, 200),
        ({"if_match": f"W/{ETAG}"}, 412),
        ({"if_match": '"a"'}, 412),
        ({"if_match": "*"}, 200),
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": EARLIER}, 412),
        ({"if_unmodified_since": "Sunday, 06-Nov-94 08:49:36 GMT"}, 412),
        ({"if_unmodified_since": "Sun Nov  6 08:49:37 1994"}, 200),
        ({"if_unmodified_since": "nonsense"}, 200),
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
