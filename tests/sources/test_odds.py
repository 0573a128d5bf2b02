"""Prices, lines, ids and instants: read exactly, or refused."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sources.sites import odds


@settings(deadline=None)
@given(st.decimals(min_value="1.001", max_value=9999, places=3))
def test_a_price_is_the_decimal_that_was_written(price: Decimal) -> None:
    written = str(price).encode()

    assert str(odds.parse_price(written)) == str(price)
    assert str(odds.parse_price(b'"' + written + b'"')) == str(price)


@pytest.mark.parametrize("quote", [b"", b'""', b'"-"', b"null", b'"1"', b"1.00", b"0", b"-2"])
def test_what_is_not_on_offer_has_no_price(quote: bytes) -> None:
    assert odds.parse_price(quote) is None


@pytest.mark.parametrize(
    "quote",
    [
        b'"NaN"',
        b'"Infinity"',
        b'"sNaN"',
        b'"1_0"',
        b"1e99",
        b"1000000",
        b"true",
        b"[2]",
        b'"2,4"',
        b'"\xd9\xa2"',
    ],
)
def test_what_is_no_price_is_refused(quote: bytes) -> None:
    with pytest.raises(ValueError, match="price"):
        odds.parse_price(quote)


@pytest.mark.parametrize(
    ("written", "line"),
    [(b"3", "3"), (b"3.0", "3"), (b'"2.50"', "2.5"), (b"10", "10"), (b"0.0", "0"), (b"100", "100")],
)
def test_equal_lines_are_written_alike(written: bytes, line: str) -> None:
    assert str(odds.parse_line(written)) == line


@pytest.mark.parametrize("written", [b"-0.5", b"0:1", b'"NaN"', b"1e1", b"2.5.5", b"{}"])
def test_what_is_no_line_is_refused(written: bytes) -> None:
    with pytest.raises(ValueError, match="line"):
        odds.parse_line(written)


@pytest.mark.parametrize(
    ("given_id", "digits"),
    [
        ("70000001", "70000001"),
        (70000001, "70000001"),
        ("sr:match:70000001", "70000001"),
        (" 70000001 ", "70000001"),
        ("", None),
        ("0", None),
        (None, None),
        ("x70000001", None),
        ("\u0667\u0660", None),
    ],
)
def test_a_sportradar_id_is_digits_or_none(given_id: str | int | None, digits: str | None) -> None:
    assert odds.sportradar_id(given_id) == digits


@pytest.mark.parametrize(
    "written",
    ["2026-09-05 14:00:00", "2026-09-05T14:00:00Z", "2026-09-05T15:00:00+01:00"],
)
def test_an_instant_is_utc(written: str) -> None:
    instant = odds.parse_kickoff(written)

    assert instant == datetime(2026, 9, 5, 14, tzinfo=UTC)
    assert instant.tzinfo is UTC


@pytest.mark.parametrize("written", ["", "2026-09-05", "tomorrow, at fourteen", "1970-01-01 00:00"])
def test_what_is_no_kick_off_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"kick-off|isoformat"):
        odds.parse_kickoff(written)


@pytest.mark.parametrize("milliseconds", [0, -1, 1788616800, 10**15, 10**30])
def test_milliseconds_that_are_no_kick_off_are_refused(milliseconds: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        odds.kickoff_from_ms(milliseconds)


def test_a_name_is_one_line_that_postgres_takes() -> None:
    assert odds.clean_text(" A\0 - \t B\n") == "A - B"


def test_the_id_of_an_odd_event_is_found_where_it_can_be() -> None:
    assert odds.record_id(msgspec.Raw(b'{"x": [], "id": 7}'), "id") == "7"
    assert odds.record_id(msgspec.Raw(b'{"id": null}'), "id") is None
    assert odds.record_id(msgspec.Raw(b"[]"), "id") is None


def test_many_faults_are_told_in_one_short_line() -> None:
    prices = odds.Prices()

    for number in range(8):
        prices.add_fault(f"p{number}", ValueError("bad"))

    assert prices.reason() == "p0: bad; p1: bad; p2: bad; p3: bad; p4: bad; and 3 more"
