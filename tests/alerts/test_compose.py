"""What is told, and when: grouped, not at night, reminded, and never what explains itself."""

from dataclasses import replace
from datetime import datetime

import pytest

from app.core import quiet_hours
from app.core.enums import JobStatus
from app.health.alerts.compose import messages, plan
from app.health.alerts.job_state import SCHEDULER, CurrentStates, JobState
from tests.alerts.states import NOW, POLICY, ago, ill, reported, seen, well


def test_an_ill_job_waits_for_others_and_then_takes_them_along() -> None:
    assert reported(ill("a", 29)) == ([], [], [])
    assert reported(ill("a", 31), ill("b", 1)) == (["a", "b"], [], [])


def test_who_was_told_is_not_told_again_until_it_is_time_to_remind() -> None:
    assert reported(ill("a", 9000, reported=8000)) == ([], [], [])
    assert reported(ill("a", 99_000, reported=24 * 3600)) == ([], ["a"], [])
    never = replace(POLICY, remind=None)
    assert reported(ill("a", 99_000, reported=24 * 3600), policy=never) == ([], [], [])


def test_a_recovery_is_told_to_those_who_were_told_of_the_illness() -> None:
    assert reported(well("a", 31, was_ill=900), well("b", 1, was_ill=900)) == ([], [], ["a", "b"])
    assert reported(well("a", 31)) == ([], [], [])


def test_a_dead_scheduler_is_told_alone_and_before_the_jobs_that_are_silent_for_it() -> None:
    assert reported(ill(SCHEDULER, 31), ill("a", 60)) == ([SCHEDULER], [], [])
    assert reported(ill(SCHEDULER, 5), ill("a", 60)) == ([], [], [])
    assert reported(ill(SCHEDULER, 999, reported=900), ill("a", 600)) == ([], [], [])


def test_a_scheduler_that_lives_again_is_given_time_to_catch_up() -> None:
    back = well(SCHEDULER, 300, was_ill=900)

    assert reported(replace(back, told_at=None), ill("a", 600))[0] == []
    assert reported(replace(back, told_at=None, flipped_at=ago(361)), ill("a", 600))[0] == ["a"]


@pytest.mark.parametrize(
    ("instant", "is_quiet"),
    [
        ("2026-07-01T21:30:00+00:00", True),
        ("2026-07-01T05:59:59+00:00", True),
        ("2026-07-01T06:00:00+00:00", False),
        ("2026-01-01T21:30:00+00:00", False),
    ],
)
def test_quiet_hours_follow_the_clocks_of_their_zone(instant: str, is_quiet: bool) -> None:
    hours = quiet_hours.parse("22:00-07:00 Europe/London")

    assert hours.covers(datetime.fromisoformat(instant)) == is_quiet


def test_nothing_is_told_in_quiet_hours_and_all_that_lasts_after_them() -> None:
    night = replace(POLICY, quiet=quiet_hours.parse("11:00-13:00"))
    morning = replace(POLICY, quiet=quiet_hours.parse("10:00-12:00"))

    assert reported(ill("a", 5000), policy=night) == ([], [], [])
    assert reported(ill("a", 5000), well("b", 4000), policy=morning) == (["a"], [], [])


@pytest.mark.parametrize("text", ["22-7", "25:00-07:00", "22:00-07:00 Mars/Base", "late"])
def test_quiet_hours_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        quiet_hours.parse(text)


def test_a_message_says_what_since_when_expected_when_the_error_and_where_to_look() -> None:
    state = ill("poll", 600)
    standing = JobState(
        "poll",
        JobStatus.UNHEALTHY,
        needs_attention=True,
        since=ago(600),
        reason="overdue",
        detail="it last ran at noon",
        expected=ago(300),
        last_error="timeout",
    )
    what = CurrentStates(NOW, {"poll": standing})

    [made] = messages(plan(what, {"poll": state}, POLICY), what, {"poll": state}, POLICY)

    assert made.title == "[rollcall] poll is overdue"
    for part in (
        "overdue since 2026-03-01 11:50:00 UTC",
        "it last ran at noon",
        "Expected by: 2026-03-01 11:55:00 UTC",
        "Last error: timeout",
        "https://rollcall.test/jobs/poll",
    ):
        assert part in made.body
    assert made.body.endswith("Dashboard: https://rollcall.test/")


def test_what_a_site_says_cannot_look_like_another_part_of_a_message() -> None:
    forged = "boom\n\nRecovered:\nodds: healthy since noon\x1b[2J\u202e"
    state = ill("poll", 600)
    standing = JobState(
        "poll",
        JobStatus.UNHEALTHY,
        needs_attention=True,
        since=ago(600),
        reason="source_failing: bet9ja",
        detail=f"bet9ja failed in the last 3 runs: {forged}",
        last_error=forged,
    )
    what = CurrentStates(NOW, {"poll": standing})

    [made] = messages(plan(what, {"poll": state}, POLICY), what, {"poll": state}, POLICY)

    assert [line for line in made.body.splitlines() if line.startswith(("Recovered", "odds"))] == []
    assert "Last error: boom Recovered: odds: healthy since noon" in made.body.replace("  ", " ")
    assert "\x1b" not in made.body


def test_a_problem_is_unhealthy_since_its_first_state_and_not_since_its_present_reason() -> None:
    state = replace(ill("poll", 600), since=ago(60), flipped_at=ago(60))
    what = seen([state])

    [made] = messages(plan(what, {"poll": state}, POLICY), what, {"poll": state}, POLICY)

    assert "poll: overdue since 2026-03-01 11:50:00 UTC" in made.body


def test_a_job_that_was_paused_is_no_longer_unhealthy_but_not_healthy() -> None:
    state = replace(well("poll", 60, was_ill=660), status="paused")
    what = seen([state])

    [made] = messages(plan(what, {"poll": state}, POLICY), what, {"poll": state}, POLICY)

    assert made.title == "[rollcall] poll is no longer unhealthy"
    assert "Recovered:\n\npoll: paused since 2026-03-01 11:59:00 UTC" in made.body


def test_a_reminder_begins_with_what_it_is() -> None:
    state = ill("poll", 90_000, reported=89_000)
    what = seen([state])

    [made] = messages(plan(what, {"poll": state}, POLICY), what, {"poll": state}, POLICY)

    assert made.body.startswith("Still unhealthy:\n\npoll: overdue since")


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        ("redis_unreachable", "[rollcall] Redis does not answer"),
        ("redis_refuses_writes", "[rollcall] Redis refuses writes"),
        ("no_workers", "[rollcall] the scheduler is down: no live worker"),
    ],
)
def test_a_scheduler_that_is_down_is_named_by_the_reason(reason: str, title: str) -> None:
    state = replace(ill(SCHEDULER, 60), reason=reason)
    what = seen([state])

    [made] = messages(plan(what, {SCHEDULER: state}, POLICY), what, {SCHEDULER: state}, POLICY)

    assert made.title == title


def test_a_recovery_says_for_how_long_it_was_ill() -> None:
    state = well("poll", 60, was_ill=660)
    what = seen([state])

    [made] = messages(plan(what, {"poll": state}, POLICY), what, {"poll": state}, POLICY)

    assert made.title == "[rollcall] poll is healthy again"
    assert "unhealthy for 10 min" in made.body


def test_two_hundred_jobs_make_one_message_of_bounded_length() -> None:
    states = {s.key: s for s in (ill(f"job{n:03}", 60) for n in range(200))}
    what = seen(states.values())

    [made] = messages(plan(what, states, POLICY), what, states, POLICY)

    assert made.title == "[rollcall] 200 jobs are unhealthy"
    assert "and 180 more" in made.body
    assert sum(line.startswith("job") for line in made.body.splitlines()) == 20
    assert len(made.body) < 10_000


def test_problems_reminders_and_recoveries_are_messages_of_their_own_severity() -> None:
    states = {
        s.key: s
        for s in (
            ill("new", 600),
            ill("lasting", 90_000, reported=89_000),
            well("over", 60, was_ill=660),
        )
    }
    what = seen(states.values())

    made = messages(plan(what, states, POLICY), what, states, POLICY)

    assert [(one.severity.value, one.title) for one in made] == [
        ("failure", "[rollcall] new is overdue"),
        ("warning", "[rollcall] lasting is still unhealthy"),
        ("success", "[rollcall] over is healthy again"),
    ]
