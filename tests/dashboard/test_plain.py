"""Values as the pages say them."""

from datetime import UTC, datetime

import pytest

from app.orgs import one_time_login
from app.web.dashboard import formatting

NOON = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said", "about"),
    [
        (None, formatting.DASH, formatting.DASH),
        (0, "0 s", "0 s"),
        (0.42, "0.4 s", "0.4 s"),
        (61, "1 min 1 s", "1 min"),
        (3600, "1 h", "1 h"),
        (90_061, "1 d 1 h", "1 d"),
    ],
)
def test_a_span_is_said_in_two_units_or_about(seconds: float | None, said: str, about: str) -> None:
    assert (formatting.span(seconds), formatting.short_span(seconds)) == (said, about)


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (0, 0, formatting.DASH),
        (0, 9, "0 %"),
        (1, 999, "1 %"),
        (998, 999, "99 %"),
        (9, 9, "100 %"),
    ],
)
def test_a_share_is_all_or_nothing_only_if_it_is(part: int, whole: int, said: str) -> None:
    assert formatting.percentage(part, whole) == said


def test_an_instant_of_another_day_names_it() -> None:
    assert formatting.clock(NOON, NOON) == "12:00:05"
    assert formatting.clock(NOON, NOON.replace(hour=23)) == "12:00:05"
    assert formatting.clock(NOON.replace(hour=23), NOON.replace(day=2, hour=0)) == "23:00:05"
    assert formatting.clock(NOON, NOON.replace(day=2)) == "2026-03-01 12:00"
    assert formatting.local_time(NOON, "Pacific/Auckland") == "2026-03-02 01:00:05 Pacific/Auckland"


@pytest.mark.parametrize(
    ("command", "base"),
    [
        ("uvicorn app.web:app", "http://127.0.0.1:8000"),
        ("uvicorn app.web:app --host 0.0.0.0 --port=9000", "http://127.0.0.1:9000"),
        ("uvicorn app.web:app --host box --port 80", "http://box:80"),
    ],
)
def test_the_address_to_sign_in_at_is_that_of_the_server(command: str, base: str) -> None:
    assert one_time_login.server_base_url(command.split()) == base
