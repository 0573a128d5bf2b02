"""Rules of schedules: which instants they name, how they are declared, refused and described."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadSchedule
from app.scheduling.schedule import EPOCH, Schedule

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
WEEK = timedelta(weeks=1)

steps = st.integers(100_000, 40_000_000_000).map(lambda us: us / 1_000_000)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
spans = st.timedeltas(timedelta(0), timedelta(days=3))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def named(schedule: Schedule, after: str, until: str) -> list[str]:
    ticks = schedule.ticks(utc(after), utc(until))
    return [tick.strftime("%d %H:%M") for tick in ticks]


@given(steps, instants, instants, spans)
def test_interval_ticks_are_the_grid_through_the_anchor(
    seconds: float, anchor: datetime, after: datetime, span: timedelta
) -> None:
    schedule = Schedule.every(seconds, anchor=anchor)
    step = timedelta(seconds=seconds)
    until = after + min(span, 50 * step)

    ticks = list(schedule.ticks(after, until))

    assert all((tick - anchor) % step == timedelta(0) for tick in ticks)
    assert all(after < tick <= until for tick in ticks)
    assert len(ticks) == schedule.count(after, until)
    assert [schedule.next(tick - step) for tick in ticks] == ticks
    assert schedule.next(after) - after <= step
    assert schedule.previous(schedule.next(after)) == schedule.next(after) - step


def test_a_window_turned_round_names_nothing() -> None:
    schedule = Schedule.every(60)

    ticks = list(schedule.ticks(NOON, NOON - WEEK))

    assert ticks == []
    assert schedule.count(NOON, NOON - WEEK) == 0


def test_an_interval_takes_no_notice_of_clock_changes() -> None:
    schedule = Schedule.every(7 * 60)

    ticks = list(schedule.ticks(NOON, NOON + 4 * WEEK))

    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(minutes=7)}


def test_a_week_of_minutes_is_named_in_milliseconds() -> None:
    interval, cron = Schedule.every(60), Schedule.cron("* * * * *", "Europe/Berlin")

    started = time.process_time()
    by_interval = list(interval.ticks(NOON, NOON + WEEK))
    between = time.process_time()
    by_cron = list(cron.ticks(NOON, NOON + WEEK))
    ended = time.process_time()

    assert by_interval == by_cron
    assert len(by_cron) == 10_080
    assert between - started < 0.02
    assert ended - between < 0.5


@pytest.mark.parametrize(
    ("expression", "after", "until", "ticks"),
    [
        # Berlin skips 02:00-03:00 on 29 March (01:00 UTC) …
        ("30 2 * * *", "2026-03-28", "2026-03-30T12:00", ["28 01:30", "29 01:00", "30 00:30"]),
        ("0,30 2,3 29 3 *", "2026-03-28", "2026-03-30", ["29 01:00", "29 01:30"]),
        ("0 * 29 3 *", "2026-03-29", "2026-03-29T03:00", ["29 01:00", "29 02:00", "29 03:00"]),
        # … and has 02:00-03:00 twice on 25 October (00:00 and 01:00 UTC).
        ("30 2 * * *", "2026-10-24", "2026-10-26T12:00", ["24 00:30", "25 00:30", "26 01:30"]),
        ("30 * * * *", "2026-10-25", "2026-10-25T02:00", ["25 00:30", "25 01:30"]),
        ("*/45 2 25 10 *", "2026-10-25T00:30", "2026-10-26", ["25 00:45", "25 01:00", "25 01:45"]),
        ("30 2 * * *", "2026-10-25T00:45", "2026-10-26T12:00", ["26 01:30"]),
        ("0 30 2 * * *", "2026-03-28", "2026-03-30T12:00", ["28 01:30", "30 00:30"]),
        ("0 30 2 25 10 *", "2026-10-24", "2026-10-26", ["25 00:30", "25 01:30"]),
    ],
)  # fmt: skip
def test_debian_rules_at_the_clock_changes_of_berlin(
    expression: str, after: str, until: str, ticks: list[str]
) -> None:
    schedule = Schedule.cron(expression, "Europe/Berlin")

    found = named(schedule, after, until)

    assert found == ticks


def test_a_half_hour_change_neither_loses_nor_doubles_an_hourly_tick() -> None:
    schedule = Schedule.cron("45 * * * *", "Australia/Lord_Howe")

    found = named(schedule, "2026-04-04T13:00", "2026-04-04T16:30")

    # 02:00 becomes 01:30 at 15:00 UTC: 01:45 comes twice, half an hour apart.
    assert found == ["04 13:45", "04 14:45", "04 15:15", "04 16:15"]


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 0 29 2 *", "2028-02-29"),
        ("0 0 * 2 MON#5", "2044-02-29"),
        ("0 0 L * *", "2026-03-31"),
        ("0 0 LW 5 *", "2026-05-29"),
        ("0 0 * * 5L", "2026-03-27"),
        ("0 0 * * fri#1", "2026-04-03"),
        ("0 0 13 * FRI", "2026-03-27"),
        ("0 0 */14 * FRI", "2026-05-01"),
        ("30 0 0 1 apr *", "2026-04-01T00:00:30"),
        ("0 5-05/2 * * *", "2026-03-21T05:00"),
        ("0 0 * * 7-7/2", "2026-03-22"),
        ("@hourly", "2026-03-20T13:00"),
        ("@daily", "2026-03-21"),
        ("@midnight", "2026-03-21"),
        ("@weekly", "2026-03-22"),
        ("@monthly", "2026-04-01"),
        ("@yearly", "2027-01-01"),
        ("@Annually", "2027-01-01"),
    ],
)
def test_an_expression_names_its_next_instant(expression: str, first: str) -> None:
    schedule = Schedule.cron(expression)

    tick = schedule.next(NOON)

    assert tick == utc(first)


@pytest.mark.parametrize(
    ("expression", "last"),
    [
        ("0 0 29 2 *", "2024-02-29"),
        ("* * * 2 *", "2026-02-28T23:59"),
        ("0 0 1 1 *", "2026-01-01"),
        ("* * * * * *", "2026-03-20T11:59:59"),
    ],
)
def test_the_previous_instant_is_found_however_long_ago(expression: str, last: str) -> None:
    schedule = Schedule.cron(expression)

    tick = schedule.previous(NOON)

    assert tick == utc(last)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("61 * * * *", 'minute "61"; it takes 0-59'),
        ("* 24 * * *", 'hour "24"'),
        ("99 * * * * *", 'second "99"'),
        ("* * * 13 *", 'month "13"'),
        ("* * ? * *", 'day-of-month "?"'),
        ("* * * * FRI-SUN", 'day-of-week "FRI-SUN"'),
        ("*/0 * * * *", r'minute "\*/0"'),
        ("\x00 * * * *", r'minute "\\x00"'),
        ("0 0 30 2 *", 'day-of-month "30" does not exist in month "2"'),
        ("0 0 30,31 2 *", 'day-of-month "30,31" does not exist in month "2"'),
        ("0 0 31 4,6 *", 'day-of-month "31" does not exist in month "4,6"'),
        ("0 0 */30 2 MON#5", "never fires"),
        ("0 0 LW * */6", "never fires"),
        ("0 30 2 * 3 0L", "never fires in Europe/Berlin"),
        ("@reboot", "@reboot"),
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("1" * 400 + " * * * *", "minute"),
        ("9" * 10_000, "longer than 500"),
        (",".join(["0-59"] * 90) + " * * * x", "day-of-week"),
    ],
)
def test_what_cannot_fire_is_refused_at_once_with_its_reason(expression: str, message: str) -> None:
    started = time.process_time()

    with pytest.raises(BadSchedule, match=message):
        Schedule.cron(expression, "Europe/Berlin")

    assert time.process_time() - started < 0.25


@pytest.mark.parametrize(
    "zone",
    ["", "localtime", "/etc/localtime", "../UTC", "Europe", "Mars/Base", "right/UTC", "posixrules",
     "Factory", "Europe/Berlin\n", "A" * 9999],
)  # fmt: skip
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(BadSchedule, match="Unknown time zone"):
        Schedule.cron("0 0 * * *", zone)


@pytest.mark.parametrize("seconds", [0, -60, 0.01, 1e10, 1e300, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(BadSchedule, match="Invalid interval"):
        Schedule.every(seconds)


def test_an_anchor_without_a_zone_is_refused() -> None:
    with pytest.raises(BadSchedule, match="anchor"):
        Schedule.every(60, anchor=NOON.replace(tzinfo=None))


@pytest.mark.parametrize("jitter", [timedelta(seconds=-1), timedelta(days=8)])
def test_a_jitter_out_of_bounds_is_refused(jitter: timedelta) -> None:
    with pytest.raises(BadSchedule, match="jitter"):
        Schedule.every(60, jitter=jitter)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule.every(60), "every minute"),
        (Schedule.every(300), "every 5 minutes"),
        (Schedule.every(5400), "every 90 minutes"),
        (Schedule.every(86_400), "every day"),
        (Schedule.every(1.5), "every 1.5 seconds"),
        (Schedule.every(3600, jitter=timedelta(minutes=1)), "every hour, up to 1 minute later"),
        (
            Schedule.cron("30 2 * * MON-FRI", "Europe/Berlin"),
            "at 02:30 on Monday to Friday, Europe/Berlin",
        ),
        (Schedule.cron("0 0 1 * MON"), "at 00:00 on the first day of month or on Monday, UTC"),
        (Schedule.cron("0 0 1 * 0-7"), "at 00:00 every day, UTC"),
        (Schedule.cron("0 0 1-31 * MON"), "at 00:00 every day, UTC"),
        (Schedule.cron("0 0 21 * *"), "at 00:00 on the 21st day of every month, UTC"),
        (Schedule.cron("0 0 L * *"), "at 00:00 on the last day of every month, UTC"),
        (Schedule.cron("5 30 2 * * *"), "at 02:30:05 every day, UTC"),
        (Schedule.cron("@yearly"), "at 00:00 on January 1, UTC"),
    ],
)
def test_a_schedule_says_itself_in_plain_words(schedule: Schedule, words: str) -> None:
    text = schedule.describe()

    assert text == words


@pytest.mark.parametrize(
    ("schedule", "gap"),
    [
        (Schedule.every(420), timedelta(minutes=7)),
        (Schedule.cron("*/5 * * * *"), timedelta(minutes=5)),
        (Schedule.cron("0 9 * * MON-FRI", "Europe/Berlin"), timedelta(days=1)),
        (Schedule.cron("0 0 29 2 *"), timedelta(days=1461)),
    ],
)
def test_the_nominal_spacing_is_the_usual_gap(schedule: Schedule, gap: timedelta) -> None:
    assert schedule.interval == gap


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.every(0.1, name="a"),
        Schedule.every(300, anchor=NOON, name="a", jitter=timedelta(seconds=1.5)),
        Schedule.cron("  0  9 *  * mon", "Europe/Berlin", name="a"),
        Schedule.cron("@daily", name="a", jitter=timedelta(minutes=1)),
    ],
)
def test_a_schedule_comes_back_from_its_spec(schedule: Schedule) -> None:
    again = Schedule.from_spec(schedule.to_spec(), name="a")

    assert again == schedule


def test_a_spec_leaves_the_usual_unsaid() -> None:
    schedule = Schedule.from_spec({"every_seconds": 60})

    assert schedule == Schedule.every(60, anchor=EPOCH)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "cron must be text"),
        ({"cron": 5}, "cron must be text"),
        ({"cron": "@daily", "timezone": None}, "timezone must be text"),
        ({"every_seconds": "60"}, "every_seconds must be a number"),
        ({"every_seconds": True}, "every_seconds must be a number"),
        ({"every_seconds": 1e300}, "more than 3,660 days"),
        ({"every_seconds": 60, "anchor": "soon"}, "is not a timestamp"),
        ({"every_seconds": 60, "anchor": "0001-01-01T00:00+09:00"}, "is not a timestamp"),
        ({"every_seconds": 60, "cron": "@daily"}, 'unknown key "cron"'),
        ({"cron": "@daily", "jitter_seconds": 1e300}, "more than 3,660 days"),
        ({"cron": "@daily", "tz": "UTC"}, 'unknown key "tz"'),
    ],
)
def test_a_spec_that_is_none_is_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(BadSchedule, match=message):
        Schedule.from_spec(spec)


def minutely(name: str, jitter: timedelta) -> Schedule:
    return Schedule.every(60, name=name, jitter=jitter)


def at_night(name: str, jitter: timedelta) -> Schedule:
    return Schedule.cron("*/3 1-4 * * *", "Europe/Berlin", name=name, jitter=jitter)


@given(st.sampled_from([minutely, at_night]), st.text(max_size=8), spans, instants)
def test_jitter_is_the_same_every_time_and_over_before_the_next_tick(
    declare: Callable[[str, timedelta], Schedule], name: str, jitter: timedelta, after: datetime
) -> None:
    schedule = declare(name, jitter)
    tick = schedule.next(after)

    start = schedule.starts_at(tick)

    assert start == declare(name, jitter).starts_at(tick)
    assert tick <= start <= tick + jitter
    assert start < schedule.next(tick)
    assert start == schedule.starts_at(tick, schedule.next(tick))


def test_jitter_differs_from_name_to_name() -> None:
    minute = timedelta(seconds=59)

    starts = {Schedule.every(60, name=str(n), jitter=minute).starts_at(NOON) for n in range(100)}

    assert len(starts) > 90


@pytest.mark.parametrize(
    ("zone", "start"), [("America/Recife", "2000-10-01"), ("Asia/Gaza", "2040-10-14")]
)
def test_two_clock_changes_within_a_week_are_one_walk_whatever_the_span(
    zone: str, start: str
) -> None:
    schedule = Schedule.cron("30 */2 * * *", zone)
    until = utc(start) + 3 * WEEK

    stepped: list[datetime] = []
    at = utc(start)
    while (at := schedule.next(at)) <= until:
        stepped.append(at)

    assert list(schedule.ticks(utc(start), until)) == stepped


@pytest.mark.parametrize(
    ("stepped", "plain"),
    [
        ("0 0 * * MON-1/2", "0 0 * * MON"),
        ("0 0 * * 1-mon/2", "0 0 * * 1"),
        ("0 0 * * 5-05/3", "0 0 * * 5"),
        ("0 0 1 1-JAN/3 *", "0 0 1 1 *"),
        ("0 0 1 dec-12/3 *", "0 0 1 dec *"),
    ],
)
def test_a_range_of_one_by_name_or_number_has_no_other_steps(stepped: str, plain: str) -> None:
    assert Schedule.cron(stepped).to_spec() == Schedule.cron(plain).to_spec()


def test_a_range_of_two_keeps_its_step() -> None:
    assert named(Schedule.cron("0 0 * * MON-3/2"), "2026-06-01", "2026-06-08") == [
        "03 00:00",
        "08 00:00",
    ]


@pytest.mark.parametrize("cron", ["0 0 * * fr\u0131", "0 0 1 \u029fan *", "\u0663 0 * * *"])
def test_letters_that_only_look_like_a_name_are_refused(cron: str) -> None:
    with pytest.raises(BadSchedule, match="it takes"):
        Schedule.cron(cron)


def test_the_tick_before_is_found_across_the_longest_gap() -> None:
    rare = Schedule.cron("0 0 * 2 MON#5")  # a 29 February on a Monday: none from 2072 to 2112

    assert rare.previous(utc("2112-02-01")) == utc("2072-02-29")
    assert rare.next(utc("2072-03-01")) == utc("2112-02-29")


@pytest.mark.parametrize(
    ("schedule", "ticks"),
    [
        (Schedule.every(60), 1_440),
        (Schedule.every(7 * 3_600), 4),
        (Schedule.cron("*/5 8-17 * * *", "UTC"), 120),
    ],
)
def test_a_day_has_at_most_so_many_ticks(schedule: Schedule, ticks: int) -> None:
    assert schedule.most_per_day == ticks
