"""When to ask again, and what a Retry-After says."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Blocked, HttpStatus, Network
from app.fetch.retry import MAX_RETRY_AFTER, retry_after, retry_delay, should_retry

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("1.5", 1.5),
        ("999999999", MAX_RETRY_AFTER),
        ("9" * 5_000, MAX_RETRY_AFTER),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 12:01:00 -0000", 60.0),
        ("Sun, 01 Mar 2036 12:01:00 GMT", MAX_RETRY_AFTER),
        ("Sun, 01 Mar 1970 12:01:00 GMT", 0.0),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60.0),
        ("Sun Mar  1 12:01:00 2026", 60.0),
        ("2026-03-01T13:01:00+01:00", 60.0),
        ("Sun, 01 Mar 2026 7:01:00 AM EST", 60.0),
        ("1772366460", 60.0),
        ("60 seconds", 60.0),
        ("60s", 60.0),
        ("60 s", 60.0),
        ("60 minutes", None),
        ("01/02/2026", None),
        ("-1", None),
        ("²", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("tomorrow", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_nonsense(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d+ [\d:]+ [-+]?\w+"))
def test_whatever_retry_after_says_the_wait_is_none_or_bounded(header: str) -> None:
    wait = retry_after(header, NOW)

    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER


@given(st.integers(0, int(MAX_RETRY_AFTER)))
def test_seconds_and_the_date_they_lead_to_say_the_same(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert retry_after(date, NOW) == retry_after(str(seconds), NOW) == seconds


def test_the_pause_is_jittered_doubles_and_is_never_less_than_asked_for() -> None:
    failure = Network("broke")
    asked = HttpStatus("503", retry=True, retry_in=9.0)

    assert [retry_delay(failure, attempt, 0.5) for attempt in (1, 2)] == [0.5, 1.0]
    assert retry_delay(failure, 1, 0.0) == 0.0
    assert retry_delay(asked, 1, 0.9) == 9.0


def test_only_what_may_pass_is_asked_again_and_only_by_reading_methods() -> None:
    failure = Network("broke")

    assert should_retry(failure, "GET", 1)
    assert should_retry(failure, "HEAD", 2)
    assert not should_retry(failure, "GET", 3)
    assert not should_retry(failure, "POST", 1)
    assert not should_retry(Blocked("no"), "GET", 1)
