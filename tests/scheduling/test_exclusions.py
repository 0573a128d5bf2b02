"""Exclusions: which instants a rule covers, what a calendar says, and what is refused."""

import time
import tracemalloc
from datetime import UTC, date, datetime, timedelta

import pytest

from app.core.enums import Coalesce, TickOutcome, TickReason
from app.core.errors import BadSchedule
from app.scheduling import calendars
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.policy import Decision, DecisionInput, decide
from app.scheduling.schedule import Schedule

FRIDAY = datetime(2026, 9, 4, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("rule", "covered", "free"),
    [
        (
            "2026-12-25",
            ["2026-12-25T00:00+01:00", "2026-12-25T23:59+01:00"],
            ["2026-12-26T00:00+01:00"],
        ),
        ("2026-12-24/2026-12-26", ["2026-12-26T23:00+01:00"], ["2026-12-23T23:59+01:00"]),
        (
            "2026-12-24T18:00/2026-12-25T06:00",
            ["2026-12-24T18:00+01:00", "2026-12-25T05:59+01:00"],
            ["2026-12-25T06:00+01:00", "2026-12-24T17:59+01:00"],
        ),
        (
            "2026-12-24T18:00Z/2026-12-25T06:00Z",
            ["2026-12-25T05:59+00:00"],
            ["2026-12-24T18:30+01:00"],
        ),
        ("sun", ["2026-09-06T00:00+02:00"], ["2026-09-05T23:59+02:00", "2026-09-07T00:00+02:00"]),
        (
            "sat-mon",
            ["2026-09-05T00:00+02:00", "2026-09-07T23:59+02:00"],
            ["2026-09-08T00:00+02:00"],
        ),
        (
            "22:00-06:00",
            ["2026-09-04T22:00+02:00", "2026-09-05T05:59+02:00"],
            ["2026-09-05T06:00+02:00"],
        ),
        (
            "fri 22:00-06:00",
            ["2026-09-04T23:00+02:00", "2026-09-05T05:00+02:00"],
            ["2026-09-04T05:00+02:00", "2026-09-05T22:00+02:00"],
        ),
        ("9:00-10:30", ["2026-09-04T09:00+02:00"], ["2026-09-04T10:30+02:00"]),
        ("Mon-Fri 12:00-24:00", ["2026-09-04T23:59+02:00"], ["2026-09-05T12:00+02:00"]),
    ],
)
def test_a_rule_covers_local_time_and_not_its_end(
    rule: str, covered: list[str], free: list[str]
) -> None:
    exclude = Exclusions.parse([rule], "Europe/Berlin")

    assert all(exclude.compiled().cover(at(text)) for text in covered)
    assert not any(exclude.compiled().cover(at(text)) for text in free)


def test_overlapping_spans_cover_up_to_the_latest_end() -> None:
    exclude = Exclusions.parse(
        ["2026-09-01T00:00/2026-09-30T00:00", "2026-09-02T00:00/2026-09-03T00:00"]
    )

    assert exclude.compiled().cover(at("2026-09-20T00:00+00:00"))
    assert not exclude.compiled().cover(at("2026-09-30T00:00+00:00"))


ONE_MINUTES = tuple(f"mon {n // 60:02}:{n % 60:02}-{n // 60:02}:{n % 60 + 1:02}" for n in range(59))


@pytest.mark.parametrize(
    ("cron", "rules", "expected"),
    [
        ("* * * * *", ["2026-11-26/2036-11-01"], "2036-11-02T00:00"),
        ("* * * * *", [f"{y}-01-01/{y + 9}-12-31" for y in range(2020, 2070, 10)],
         "2070-01-01T00:00"),
        ("0 0 * * *", ["00:00-23:59"], None),
        ("* * * * *", ["00:01-24:00", "2026-11-01/2026-12-24"], "2026-12-25T00:00"),
        ("30 6 * * *", ["mon-fri", "2026-11-28T00:00/2026-11-29T07:00"], "2026-12-05T06:30"),
        ("* * * * *", [*ONE_MINUTES, *["tue 00:00-00:01"] * 100, "mon-sat", "sun 00:00-23:59"],
         "2026-11-29T23:59"),
    ],
)  # fmt: skip
def test_the_next_run_is_found_beyond_long_exclusions_in_little_time(
    cron: str, rules: list[str], expected: str | None
) -> None:
    after = datetime(2026, 11, 26, 12, tzinfo=UTC)
    began = time.thread_time()
    policies = Policies(exclude=Exclusions.parse(rules))

    found = policies.next_run(Schedule.cron(cron), after)

    assert time.thread_time() - began < 0.5, "seconds of processor time"
    assert found == (expected and datetime.fromisoformat(expected).replace(tzinfo=UTC))


CHANGES = (
    ["sun 00:00-02:20", "sat 22:00-02:10", "2026-10-25", "2018-11-04",
     "2026-03-29T01:00/2026-03-29T02:30"],
    ["sun 02:30-03:00"],
    ["sat-sun 01:30-02:30"],
    ["sun 01:40-04:10"],
)  # fmt: skip


@pytest.mark.parametrize("rules", CHANGES)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo"])
def test_what_lies_beyond_an_exclusion_is_not_passed_at_a_clock_change(
    zone: str, rules: list[str]
) -> None:
    compiled = Exclusions.parse(rules, zone).compiled()
    starts = ["2026-03-27", "2026-04-03", "2026-10-02", "2026-10-23", "2018-11-02", "2018-02-16"]

    for start in starts:
        first = datetime.fromisoformat(start).replace(tzinfo=UTC)
        instants = [first + timedelta(minutes=10 * n) for n in range(6 * 24 * 4)]
        for number, instant in enumerate(instants):
            until = compiled.covered_until(instant)
            passed = [] if until is None else [at for at in instants[number:] if at < until]
            assert all(compiled.cover(at) for at in passed), (start, instant, until)
            assert until is None or until > instant


@pytest.mark.parametrize(
    ("rules", "start", "expected"),
    [
        ([], "9940-03-01", 9940),
        ([], "9990-01-01", 9990),
        ([], "9999-12-30", None),
        ([], "9999-12-31T23:59:59.999999", None),
        (["0001-01-01/0001-01-02", "9999-12-31"], "9999-12-31", None),
    ],
)
@pytest.mark.parametrize("cron", ["* * * * *", "0 6 * * *"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_bounds_at_the_end_of_all_calendars_are_answered(
    rules: list[str], start: str, expected: int | None, cron: str, zone: str
) -> None:
    policies = Policies(exclude=Exclusions.parse(rules, "UTC", start))

    found = policies.next_run(Schedule.cron(cron, zone), FRIDAY)

    assert (None if found is None else found.year) == expected


def test_years_of_excluded_dates_need_little_memory() -> None:
    rules = tuple(f"{1000 + 10 * n}-01-01/{1009 + 10 * n}-12-31" for n in range(200))
    tracemalloc.start()
    exclude = Exclusions(rules)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert exclude.compiled().cover(at("2026-12-24T12:00+00:00"))
    assert peak < 1_000_000


def test_at_most_two_thousand_rules_are_taken() -> None:
    rules = tuple(str(date(2026, 1, 1) + timedelta(days=n)) for n in range(2_001))

    assert len(Exclusions(rules[:-1]).rules) == 2_000
    with pytest.raises(BadSchedule, match="more than 2,000 rules"):
        Exclusions(rules)


def test_bounds_include_their_days() -> None:
    exclude = Exclusions.parse([], "Africa/Lagos", "2026-09-05", "2026-09-06")

    assert exclude.compiled().cover(at("2026-09-04T23:59+01:00"))
    assert not exclude.compiled().cover(at("2026-09-05T00:00+01:00"))
    assert not exclude.compiled().cover(at("2026-09-06T23:59+01:00"))
    assert exclude.compiled().cover(at("2026-09-07T00:00+01:00"))


@pytest.mark.parametrize(
    ("rules", "start", "end", "message"),
    [
        (["christmas"], "", "", '"christmas"; it takes a date'),
        (["2026-02-30"], "", "", "2026-02-30"),
        (["2026-12-26/2026-12-24"], "", "", "on or after its first day"),
        (["25:00-26:00"], "", "", "25:00-26:00"),
        (["12:00-12:00"], "", "", "12:00-12:00"),
        (["xyz 10:00-12:00"], "", "", "xyz"),
        (["mon-thu", "fri-sun"], "", "", "every hour of the week"),
        (["00:00-12:00", "12:00-24:00"], "", "", "every hour of the week"),
        ([], "2026-12-02", "2026-12-01", "is before start"),
        ([], "soon", "", "Invalid start"),
        (["2026-12-24T00:00-05:00/9999-12-31T23:59-05:00"], "", "", "it takes a date"),
        (["0001-01-01T00:00+09:00/2026-12-24T00:00+09:00"], "", "", "it takes a date"),
        ([], "", "9999-12-31T23:59-05:00", "Invalid end"),
    ],
)
def test_what_cannot_be_read_or_contradicts_itself_is_refused(
    rules: list[str], start: str, end: str, message: str
) -> None:
    with pytest.raises(BadSchedule, match=message):
        Exclusions.parse(rules, "UTC", start, end)


def test_policies_keep_exclusions_in_their_spec_and_add_nothing_without_them() -> None:
    exclude = Exclusions.parse(["sun", "2026-12-25"], "Africa/Lagos", "2026-01-01", "2027-01-01")
    policies = Policies(exclude=exclude)

    assert Policies.from_spec(policies.to_spec()) == policies
    assert "exclude" not in Policies().to_spec()


def decided(policies: Policies, now: datetime, limit: int = 20_000) -> Decision:
    schedule = Schedule.every(600, anchor=FRIDAY, name="job")
    return decide(DecisionInput(schedule, policies, FRIDAY, now), limit)


def test_an_excluded_tick_is_skipped_even_if_it_is_late_and_another_one_runs() -> None:
    exclude = Exclusions.parse(["12:30-13:30"])
    policies = Policies(exclude=exclude, misfire_grace=timedelta(hours=5))

    decision = decided(policies, FRIDAY + timedelta(minutes=60))

    reasons = [(o.outcome, o.reason) for o in decision.outcomes]
    assert reasons == [
        (TickOutcome.SKIPPED, TickReason.COALESCED),
        (TickOutcome.RAN, None),
        *[(TickOutcome.SKIPPED, TickReason.EXCLUDED)] * 4,
    ]
    assert (
        decided(policies, FRIDAY + timedelta(minutes=60), limit=4).outcomes
        == (decision.outcomes[:1])
    ), "the tick that runs is selected before the limit cuts"


def test_ticks_outside_start_and_end_are_excluded() -> None:
    exclude = Exclusions.parse([], "UTC", "2026-09-04T12:20", "2026-09-04T12:40")
    policies = Policies(exclude=exclude, coalesce=Coalesce.NONE, misfire_grace=timedelta(hours=1))

    decision = decided(policies, FRIDAY + timedelta(minutes=60))

    assert [o.reason for o in decision.outcomes].count(TickReason.EXCLUDED) == 3


def test_the_next_run_is_the_first_tick_that_is_not_excluded() -> None:
    schedule = Schedule.every(600, anchor=FRIDAY)
    policies = Policies(exclude=Exclusions.parse(["12:10-13:00"], end="2026-09-05"))

    assert policies.next_run(schedule, FRIDAY) == FRIDAY + timedelta(hours=1)
    assert policies.next_run(schedule, FRIDAY + timedelta(days=2)) is None


def test_the_next_run_is_after_the_instant_asked_for_also_at_the_edges() -> None:
    schedule = Schedule.every(600, anchor=FRIDAY)
    hour = Exclusions.parse([], "UTC", "2026-09-04T12:20", "2026-09-04T12:40")
    policies = Policies(exclude=hour)
    first, last = FRIDAY + timedelta(minutes=20), FRIDAY + timedelta(minutes=40)

    assert policies.next_run(schedule, FRIDAY) == first
    assert policies.next_run(schedule, first) == first + timedelta(minutes=10)
    assert policies.next_run(schedule, last - timedelta(seconds=1)) == last
    assert policies.next_run(schedule, last) is None
    assert policies.next_run_from(schedule, first) == first
    assert policies.next_run_from(schedule, FRIDAY) == first
    assert policies.next_run_from(schedule, None) is None


def test_a_schedule_is_in_the_zone_of_its_exclusions() -> None:
    schedule = Schedule.every(600, anchor=FRIDAY)
    policies = Policies(exclude=Exclusions.parse(["sun"], "Europe/Berlin"))

    assert policies.in_zone(schedule).timezone == "Europe/Berlin"
    assert Policies().in_zone(schedule) == schedule


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VTIMEZONE
TZID:Africa/Lagos
BEGIN:STANDARD
DTSTART:19190901T000000
RRULE:FREQ=YEARLY
END:STANDARD
END:VTIMEZONE
{}
END:VCALENDAR
"""


def event(*lines: str) -> str:
    return CALENDAR.format("\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT"]))


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (["DTSTART;VALUE=DATE:20261224", "DTEND;VALUE=DATE:20261227"], "2026-12-24/2026-12-26"),
        (["DTSTART;VALUE=DATE:20261001", "SUMMARY:Independence", " Day"], "2026-10-01/2026-10-01"),
        (
            ["DTSTART:20261224T180000Z", "DTEND:20261225T060000Z"],
            "2026-12-24T18:00:00+00:00/2026-12-25T06:00:00+00:00",
        ),
        (
            [
                "DTSTART;TZID=Africa/Lagos:20261224T180000",
                'DTEND;TZID="Africa/Lagos":20261224T190000',
            ],
            "2026-12-24T17:00:00+00:00/2026-12-24T18:00:00+00:00",
        ),
        (
            ["DTSTART;TZID=Europe/Oslo:20261224T180000", "DTEND;TZID=Europe/Oslo:20261224T190000"],
            "2026-12-24T18:00:00/2026-12-24T19:00:00",
        ),
        (
            [
                "DTSTART:20261224T180000",
                "DTEND:20261224T190000",
                "BEGIN:VALARM",
                "DURATION:PT1M",
                "END:VALARM",
            ],
            "2026-12-24T18:00:00/2026-12-24T19:00:00",
        ),
    ],
)
def test_an_event_of_a_calendar_is_a_rule(lines: list[str], rule: str) -> None:
    rules = calendars.expand(["sun", "holidays.ics"], lambda _: event(*lines), "Europe/Oslo")

    assert rules == ["sun", rule]
    assert Exclusions.parse(rules)


def test_a_cancelled_event_excludes_nothing() -> None:
    cancelled = event("DTSTART;VALUE=DATE:20261224", "STATUS:CANCELLED")

    assert calendars.read_events(cancelled) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "is not an iCalendar file"),
        (
            event("DTSTART;VALUE=DATE:20261224", "RRULE:FREQ=YEARLY", "SUMMARY:Eve"),
            '"Eve" has RRULE',
        ),
        (event("DTSTART:20261224T180000Z", "DURATION:PT1H"), "has DURATION"),
        (event("DTSTART:20261224T180000Z"), "has no DTEND"),
        (event("SUMMARY:Eve"), "has no DTSTART"),
        (event("DTSTART:tomorrow", "DTEND:later"), 'has the time "tomorrow"'),
        (event("DTSTART;TZID=Mars/Base:20261224T180000", "DTEND:20261224T190000Z"), "Mars/Base"),
        (event("DTSTART:99991231"), "an event is outside of the years 1 to 9999"),
        (
            event("DTSTART:20261224T180000Z", "DTEND;TZID=America/New_York:99991231T235900"),
            "an event is outside of the years 1 to 9999",
        ),
        (event("DTSTART;VALUE=DATE:20261224", "DTEND:20261224T190000Z"), "begins with a date"),
    ],
)
def test_a_calendar_that_is_not_understood_in_full_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadSchedule, match=message):
        calendars.expand(["holidays.ics"], lambda _: text)
