"""A written date is read as what it says, or refused with the reason; none is guessed."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sources.dates import read_date, read_epoch, read_layout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # am and pm
        ("Nov 20, 2026 8:30 PM", "2026-11-20T20:30:00"),
        ("Fri, 20 Nov 2026 1:55 PM EST", "2026-11-20T13:55:00-05:00"),
        ("Nov. 20, 2026, 12:05 a.m.", "2026-11-20T00:05:00"),
        ("November 20 2026 12:05:06 PM", "2026-11-20T12:05:06"),
        ("Friday, November 20, 2026 - 3:09pm", "2026-11-20T15:09:00"),
        ("8 PM ET, Nov 20, 2026", "2026-11-20T20:00:00-05:00"),
        ("11/20/2026, 2:30:00 PM", "2026-11-20T14:30:00"),
        # zones
        ("20 Nov 2026 10:00 GMT+0100", "2026-11-20T10:00:00+01:00"),
        ("20 Nov 2026 10:00:00 GMT-07:00", "2026-11-20T10:00:00-07:00"),
        ("20 Nov 2026 10:00 UTC+2", "2026-11-20T10:00:00+02:00"),
        ("20 Jul 2026 10:00 CEST", "2026-07-20T10:00:00+02:00"),
        ("20 Nov 2026 10:00 JST", "2026-11-20T10:00:00+09:00"),
        ("20 Nov 2026 10:00 +5:30", "2026-11-20T10:00:00+05:30"),
        ("20 Nov 2026 10:00 Europe/Brussels", "2026-11-20T10:00:00+01:00"),
        ("20 Jul 2026 10:00 America/New_York", "2026-07-20T10:00:00-04:00"),
        ("2026-11-20 10:00:00 +0200 EET", "2026-11-20T10:00:00+02:00"),
        ("2026-11-20T10:00:00+01:00[Europe/Berlin]", "2026-11-20T10:00:00+01:00"),
        ("Fri, 20 Nov 2026 10:00:00 (CET)", "2026-11-20T10:00:00+01:00"),
        ("Fri Nov 20 2026 17:00:00 GMT+0000 (Greenwich Mean Time)", "2026-11-20T17:00:00+00:00"),
        ("2026-11-20T16:20:00-05:00Z", "2026-11-20T16:20:00-05:00"),
        ("26 Sep 2026 GMT", "2026-09-26T00:00:00+00:00"),
        # languages and ordinals
        ("Do, 26 Mär 2026 00:00:00 +0100", "2026-03-26T00:00:00+01:00"),
        ("mar., 01 déc. 2026 16:11:02 +0000", "2026-12-01T16:11:02+00:00"),
        ("Lundi, 16. Novembre 2026 - 15:54", "2026-11-16T15:54:00"),
        ("5 de agosto de 2026", "2026-08-05T00:00:00"),
        ("Mon, 16th Nov 2026 13:16:28 GMT", "2026-11-16T13:16:28+00:00"),
        ("14. Nov. 2026, 14:30 Uhr", "2026-11-14T14:30:00"),
        ("Thu, June 25, 2026 at 01:11 PM EDT", "2026-06-25T13:11:00-04:00"),
        # orders
        ("Fri Nov 20 15:04:05 -0700 2026", "2026-11-20T15:04:05-07:00"),
        ("Fri Nov 20 15:04:05 2026", "2026-11-20T15:04:05"),
        ("15:04 20.11.2026 -0700", "2026-11-20T15:04:00-07:00"),
        ("Friday, 20-Nov-26 10:00:00 GMT", "2026-11-20T10:00:00+00:00"),
        ("2026 November 20", "2026-11-20T00:00:00"),
        ("2026/11/20 10:00", "2026-11-20T10:00:00"),
        ("20.11.26", "2026-11-20T00:00:00"),
        ("11/20/26 21:55:58", "2026-11-20T21:55:58"),
        ("Sat 25/04/2026", "2026-04-25T00:00:00"),
        ("Fri, 03/04/2026", "2026-04-03T00:00:00"),
        ("Sat, 11 04 2026", "2026-04-11T00:00:00"),  # 4 November 2026 is a Wednesday
        ("20261120", "2026-11-20T00:00:00"),
        ("20261120143000", "2026-11-20T14:30:00"),
        ("2026-W47-5", "2026-11-20T00:00:00"),
        ("2026-11-20T24:00:00Z", "2026-11-21T00:00:00+00:00"),
        ("Thu, 31 Dec 2026 23:59:60 GMT", "2027-01-01T00:00:00+00:00"),
        ("1520932969", "2018-03-13T09:22:49+00:00"),
        ("1520932969123", "2018-03-13T09:22:49.123000+00:00"),
    ],
)
def test_a_date_is_read_as_it_is_written(text: str, expected: str) -> None:
    assert read_date(text).at.isoformat() == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("03/04/2026", "order"),
        ("Tue, 03/04/2026", "order"),
        ("26-11-20", "order"),
        ("November 2026", "day"),
        ("20 November", "day"),
        ("Before 20 Nov 2026", "before"),
        ("20 Nov 2026 10:00 IST", "more than one time zone"),
        ("20 Nov 2026 10:00 XYZ", "xyz"),
        ("20 Nov 2026 10:00 A", "'a'"),
        ("20 Nov 2026 10:00 Mars/Olympus", "unknown time zone"),
        ("20 Nov 2026 10:00 EST+0300", "two time zones"),
        ("2026-11-20T10:00:00+15:00", "offset"),
        ("2026-11-20T10:00:00+09:75", "offset"),
        ("20 Nov 2026 10:00:61 GMT", "second 61"),
        ("20 Nov 2026 10:00:99 GMT", "second 99"),
        ("20 Nov 2026 10:00:60 GMT", "second 60"),
        ("20 Nov 2026 10:75 GMT", "time"),
        ("20 Nov 2026 13:00 PM", "13"),
        ("20 Nov 2026 0:30 PM", "0"),
        ("2026-11-20T24:01Z", "time"),
        ("12 jui 2026", "more than one month"),
        ("20 Nov 2026 10:00 to 11:00", "two times"),
        ("20 Nov 126", "day"),
        ("2026-02-30", "range"),
        ("202611201430", "format"),
        ("10", "format"),
        ("", "empty"),
        ("1" * 200, "long"),
    ],
)
def test_a_date_that_is_not_understood_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_date(text)


@given(st.text(max_size=60) | st.from_regex(r"[0-9:/., APMZ+-]{1,40}", fullmatch=True))
def test_any_text_is_a_date_or_a_value_error(text: str) -> None:
    try:
        read_date(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1_788_609_600, datetime(2026, 9, 5, 12, tzinfo=UTC)),
        (1_788_609_600_000, datetime(2026, 9, 5, 12, tzinfo=UTC)),
        (Decimal("1788609600.25"), datetime(2026, 9, 5, 12, 0, 0, 250_000, tzinfo=UTC)),
        (788_918_400_000, datetime(1995, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_plausible_number_is_unix_time(number: Decimal | int, expected: datetime) -> None:
    assert read_epoch(number) == expected


@pytest.mark.parametrize(
    "number", [20_261_120, 2_026_112_014, 202_611_201_430, 20_261_120_143_000, 0, -5, 10**18]
)
def test_a_number_that_is_no_plausible_time_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="format"):
        read_epoch(number)


def test_a_layout_that_ends_with_a_zone_name_takes_the_names_of_zones() -> None:
    at = read_layout("20 Jul 2026 10:00 CEST", "%d %b %Y %H:%M %Z")

    assert at.isoformat() == "2026-07-20T10:00:00+02:00"
