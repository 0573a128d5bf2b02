"""The newest runs and ticks, read together."""

from datetime import UTC, datetime, timedelta

from app.core.enums import HealthReason, RunStatus, TickReason
from app.health.facts import JobFacts
from app.health.history import silent_after, with_runs, with_ticks
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule

NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)  # a Friday
JOB = JobFacts("poll")


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def test_a_streak_of_failures_reaches_back_to_the_last_good_run_and_over_our_own_outage() -> None:
    newest = [
        ("failure", "http_status", None, ago(1)),
        ("failure", "local_network", None, ago(2)),
        ("cancelled", None, None, ago(3)),
        ("timed_out", None, None, ago(4)),
        ("partial_failure", None, None, ago(5)),
        ("failure", None, None, ago(6)),
    ]

    read = with_runs(JOB, newest)

    assert (read.consecutive_failures, read.failing_since, read.last_run) == (2, ago(4), ago(1))
    assert read.history[:2] == (RunStatus.FAILURE, None)
    assert (read.succeeded, read.finished) == (0, 6)


def test_a_broken_expectation_is_that_of_the_last_run_and_began_with_the_first_in_a_row() -> None:
    newest = [
        ("success", None, "drift", ago(1)),
        ("success", None, "drift", ago(2)),
        ("success", None, None, ago(3)),
        ("success", None, "drift", ago(4)),
    ]

    assert (with_runs(JOB, newest).breach, with_runs(JOB, newest).breach_since) == (
        HealthReason.DRIFT,
        ago(2),
    )
    assert with_runs(JOB, newest[2:]).breach is None
    assert with_runs(JOB, [("success", None, "what?", ago(1))]).breach is None


def test_a_streak_of_skips_leaves_out_what_was_let_go_on_purpose() -> None:
    newest = [
        ("skipped", "overlap", ago(1), 1),
        ("skipped", "paused", ago(2), 70),
        ("missed", "scheduler_down", ago(3), 60),
        ("skipped", "coalesced", ago(4), 1),
        ("ran", None, ago(5), 1),
    ]

    read = with_ticks(JOB, newest)

    assert (read.skip_streak, read.skipping_since) == (61, ago(3))
    assert (read.skip_reason, read.rested_until) == (TickReason.OVERLAP, ago(2))
    assert (read.ran, read.due) == (1, 63)


def test_adherence_counts_a_hundred_ticks_and_no_more_of_a_long_gap() -> None:
    newest = [("ran", None, ago(1), 1), ("missed", "late", ago(2), 100_000)]

    read = with_ticks(JOB, newest)

    assert (read.ran, read.due) == (1, 100)
    assert with_ticks(JOB, []).due == 0


def test_a_cron_is_silent_after_its_next_instant_its_grace_and_its_time() -> None:
    weekdays = Schedule.cron("0 9 * * 1-5", "UTC")
    policies = Policies(misfire_grace=timedelta(minutes=1), timeout=240)

    until = silent_after(weekdays, policies, NOW)

    assert until == datetime(2026, 3, 9, 9, 5, tzinfo=UTC)
    assert silent_after(Schedule.every(60), policies, NOW) is None
