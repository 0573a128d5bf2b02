"""A stored schedule keeps what its expression was read as, whatever another parser makes of it."""

from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim
from hypothesis import given

from app.core import zone_data
from app.core.errors import BadSchedule
from app.scheduling import cron_fields
from app.scheduling.schedule import Schedule
from tests.scheduling.expressions import expressions

START = datetime(2026, 1, 31, 23, 59)  # noqa: DTZ001 - a wall clock has no zone
NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


def walls(sim: CronSim, count: int = 40) -> list[datetime]:
    return [next(sim) for _ in range(count)]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("30 7 * * MON-FRI", "0 30 7 1-31 1-12 1-5 and"),
        ("*/20 0 L,15 * *", "0 0,20,40 0 15,L 1-12 0-6 and"),
        ("0 0 LW 2 SUN#1,5L", "0 0 0 LW 2 0#1,5L or"),
        ("5 0 0 13 * 7", "5 0 0 13 1-12 0 or"),
    ],
)
def test_what_was_read_is_text_and_finds_the_same_times(expression: str, text: str) -> None:
    assert cron_fields.to_text(CronSim(expression, START)) == text
    assert walls(cron_fields.to_sim(text, START)) == walls(CronSim(expression, START))


@given(expressions)
def test_every_expression_comes_back_from_its_text(expression: object) -> None:
    sim = CronSim(str(getattr(expression, "text", expression)), START)

    again = cron_fields.to_sim(cron_fields.to_text(sim), START)

    assert cron_fields.to_text(again) == cron_fields.to_text(sim)
    assert walls(again, 5) == walls(sim, 5)


def test_ticks_follow_the_stored_fields_and_not_the_text() -> None:
    spec = Schedule.cron("0 9 * * *", "Europe/Berlin").to_spec()
    stored = spec | {"fields": "0 0 10 1-31 1-12 0-6 and"}  # as another parser read it

    schedule = Schedule.from_spec(stored)

    assert schedule.next(NOON) == datetime(2026, 9, 6, 8, tzinfo=UTC)
    assert schedule.previous(NOON) == datetime(2026, 9, 5, 8, tzinfo=UTC)
    assert schedule.to_spec() == stored
    assert schedule.with_stamp(zone_data.wheel_stamp("Europe/Berlin")).to_spec() == stored


def test_an_expression_that_no_parser_takes_any_more_goes_on_by_its_fields() -> None:
    stored = {"cron": "0 9 * * ?", "timezone": "UTC", "fields": "0 0 9 1-31 1-12 0-6 and"}

    assert Schedule.from_spec(stored).next(NOON) == NOON + timedelta(hours=21)


@pytest.mark.parametrize(
    "fields",
    [
        "0 0 9 1-31 1-12 0-6",
        "0 0 9 1-31 1-12 0-6 nor",
        "0 60 9 1-31 1-12 0-6 and",
        "0 0 9-8 1-31 1-12 0-6 and",
        "0 0 9 1#2 1-12 0-6 and",
        "0 0 9 1-31 1-12 1#6 and",
        "0 0 9 1-31 L 0-6 and",
        "0 0 9 30 2 0-6 and",
        "0 0 9 1-31 1-12  and",
    ],
)
def test_fields_that_are_none_are_refused(fields: str) -> None:
    with pytest.raises(BadSchedule):
        Schedule.from_spec({"cron": "0 9 * * *", "timezone": "UTC", "fields": fields})
