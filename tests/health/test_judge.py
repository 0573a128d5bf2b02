"""The judgement, by table and by property."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.enums import HealthReason, JobStatus, RunStatus
from app.health.explain import sentence
from app.health.facts import JobFacts, SourceFacts
from app.health.judge import HealthRules, HealthStatus, all_healthy, expected_by, judge

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = JobFacts(
    job="j",
    last_run=NOW - timedelta(seconds=60),
    last_success=NOW - timedelta(seconds=60),
    last_status=RunStatus.SUCCESS,
    next_run=NOW + timedelta(seconds=240),
    interval_seconds=300,
    registered_at=NOW - timedelta(days=1),
)
FAILED = replace(GOOD, last_status=RunStatus.FAILURE)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


SUCCESS, FAILURE, OURS = RunStatus.SUCCESS, RunStatus.FAILURE, None
CRON = replace(GOOD, interval_seconds=86_400, silent_after=NOW + timedelta(hours=1))

BETPAWA = SourceFacts("betpawa", (SUCCESS,) * 3, last_new=ago(60))
BET9JA = SourceFacts("bet9ja", (FAILURE,) * 2, failures=2, failing_since=ago(360))

CASES = {
    "a good run": (GOOD, "healthy", None),
    "partly failed": (replace(GOOD, last_status=RunStatus.PARTIAL_FAILURE), "healthy", None),
    "exactly twice the interval": (replace(GOOD, last_run=ago(600)), "healthy", None),
    "silent for longer": (replace(GOOD, last_run=ago(600.001)), "unhealthy", "overdue"),
    "the next run is late": (replace(GOOD, next_run=ago(301)), "unhealthy", "overdue"),
    "a late run is under way": (
        replace(GOOD, next_run=ago(301), running_since=ago(300)),
        "healthy",
        None,
    ),
    "never ran": (JobFacts(job="j", interval_seconds=300), "not_started", "never_ran"),
    "paused": (replace(GOOD, last_run=ago(9999), paused_at=ago(1)), "paused", "paused"),
    "disabled": (replace(GOOD, enabled=False, last_run=None), "paused", "disabled"),
    "failed twice": (replace(FAILED, consecutive_failures=2), "healthy", None),
    "failed three times": (replace(FAILED, consecutive_failures=3), "unhealthy", "failing"),
    "interval not known": (replace(GOOD, interval_seconds=None), "unhealthy", "unknown"),
    "interval is no number": (
        replace(GOOD, interval_seconds=float("nan")),
        "unhealthy",
        "unknown",
    ),
    "silent from the start": (
        JobFacts(job="j", interval_seconds=300, registered_at=ago(601)),
        "not_started",
        "overdue",
    ),
    "registered a while ago, resumed just now": (
        JobFacts("j", interval_seconds=300, registered_at=ago(9999), rested_until=ago(10)),
        "not_started",
        "never_ran",
    ),
    "silent, but for a pause on purpose": (
        replace(GOOD, last_run=ago(9999), rested_until=ago(100)),
        "healthy",
        None,
    ),
    "a cron within its long gap": (replace(CRON, last_run=ago(3 * 86_400)), "healthy", None),
    "a cron whose instant and grace are over": (
        replace(CRON, silent_after=ago(1)),
        "unhealthy",
        "overdue",
    ),
    "a cron whose tick nobody decided": (
        replace(CRON, next_run=ago(61), grace_seconds=60),
        "unhealthy",
        "overdue",
    ),
    "a cron whose tick is undecided within its grace": (
        replace(CRON, next_run=ago(60), grace_seconds=60),
        "healthy",
        None,
    ),
    "a cron of an old release, whose grace is not known": (
        replace(CRON, next_run=ago(61)),
        "healthy",
        None,
    ),
    "no worker declares it": (replace(GOOD, orphaned=True), "unhealthy", "orphaned"),
    "its schedule cannot be read": (
        replace(GOOD, unreadable="no such zone", orphaned=True),
        "unhealthy",
        "unreadable",
    ),
    "failed three times in its history": (
        replace(FAILED, history=(FAILURE, FAILURE, FAILURE)),
        "unhealthy",
        "failing",
    ),
    "recovered once": (replace(GOOD, history=(SUCCESS, *[FAILURE] * 3)), "healthy", None),
    "a cancelled run between failures says nothing": (
        replace(FAILED, history=(FAILURE, RunStatus.CANCELLED, FAILURE, FAILURE)),
        "unhealthy",
        "failing",
    ),
    "our network failed twice": (replace(FAILED, history=(OURS, OURS, SUCCESS)), "healthy", None),
    "our network failed and failed": (replace(FAILED, history=(OURS,) * 3), "unhealthy", "unknown"),
    "failing before our network failed": (
        replace(FAILED, history=(OURS, FAILURE, FAILURE, FAILURE)),
        "unhealthy",
        "failing",
    ),
    "partly failed between failures": (
        replace(FAILED, history=(FAILURE, RunStatus.PARTIAL_FAILURE, FAILURE, FAILURE)),
        "healthy",
        None,
    ),
    "its only run failed": (
        replace(FAILED, last_success=None, history=(FAILURE,)),
        "unhealthy",
        "failing",
    ),
    "one of its sources failed twice": (replace(GOOD, sources=(BET9JA,)), "healthy", None),
    "one of its sources failed three times": (
        replace(GOOD, sources=(BETPAWA, replace(BET9JA, history=(FAILURE,) * 3))),
        "unhealthy",
        "source_failing",
    ),
    "skipped twice": (replace(GOOD, skip_streak=2), "healthy", None),
    "skipped three times": (replace(GOOD, skip_streak=3), "unhealthy", "skip_streak"),
    "late within its grace": (replace(GOOD, late_by=60, grace_seconds=60), "healthy", None),
    "late beyond it": (replace(GOOD, late_by=61, grace_seconds=60), "unhealthy", "late"),
    "late, whose grace is not known": (replace(GOOD, late_by=61), "healthy", None),
    "drifted": (replace(GOOD, breach=HealthReason.DRIFT), "unhealthy", "drift"),
    "said to be stale": (replace(GOOD, breach=HealthReason.STALE_DATA), "unhealthy", "stale_data"),
    "clocks far apart": (replace(GOOD, last_run=ago(-601)), "unhealthy", "unknown"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_job_is_judged_by_what_is_known_of_it(case: str) -> None:
    facts, status, reason = CASES[case]

    verdict = judge(facts, NOW)

    assert (verdict.status, verdict.reason) == (status, reason)


def test_a_job_recovers_after_as_many_good_runs_as_the_rules_say() -> None:
    rules = HealthRules(failing_after=2, recovered_after=2)
    once = replace(GOOD, history=(SUCCESS, FAILURE, FAILURE))

    assert judge(once, NOW, rules).reason is HealthReason.FAILING
    assert judge(replace(once, history=(SUCCESS, *once.history)), NOW, rules).reason is None


@pytest.mark.parametrize(
    ("facts", "text", "needs_attention"),
    [
        (GOOD, "healthy", False),
        (replace(GOOD, enabled=False), "paused (disabled)", False),
        (CASES["never ran"][0], "not_started (never_ran)", False),
        (CASES["silent from the start"][0], "not_started (overdue)", True),
        (CASES["skipped three times"][0], "unhealthy (skip_streak)", True),
        (
            CASES["one of its sources failed three times"][0],
            "unhealthy (source_failing: bet9ja)",
            True,
        ),
    ],
)
def test_a_status_is_shown_with_its_reason_and_says_whether_it_needs_attention(
    facts: JobFacts, text: str, needs_attention: bool
) -> None:
    health = judge(facts, NOW)

    assert (health.text, health.needs_attention) == (text, needs_attention)


def test_a_job_of_unknown_history_is_not_failing_by_the_strictest_rule() -> None:
    assert judge(FAILED, NOW, HealthRules(failing_after=1)).reason is not HealthReason.FAILING


def test_a_failing_job_is_so_since_the_earliest_that_is_known() -> None:
    failing = replace(FAILED, history=(FAILURE,) * 3, last_success=None)

    seen = [
        judge(replace(failing, failing_since=ago(30), last_success=ago(90)), NOW).since,
        judge(replace(failing, last_success=ago(90)), NOW).since,
        judge(failing, NOW).since,
    ]

    assert seen == [ago(30), ago(90), GOOD.registered_at]


def test_the_exact_instant_of_a_limit_is_within_it() -> None:
    strict = HealthRules(skips=1)

    assert judge(replace(CRON, silent_after=NOW), NOW).reason is None
    assert judge(replace(GOOD, next_run=ago(300)), NOW).reason is None
    assert judge(GOOD, NOW, strict).reason is None
    assert judge(replace(GOOD, skip_streak=1), NOW, strict).reason is HealthReason.SKIP_STREAK


def test_a_run_is_expected_two_intervals_after_the_last_or_by_the_instant_of_a_cron() -> None:
    assert expected_by(CRON) == CRON.silent_after
    assert expected_by(GOOD) == ago(60) + timedelta(seconds=600)
    assert expected_by(JobFacts("j", interval_seconds=300, registered_at=ago(9))) == (
        ago(9) + timedelta(seconds=600)
    )
    assert expected_by(JobFacts("j", interval_seconds=300)) is None
    assert expected_by(replace(GOOD, interval_seconds=None)) is None


def test_nothing_new_for_too_long_is_stale_since_then() -> None:
    rules = HealthRules(fresh={"j": 3600})
    old = replace(GOOD, last_new=ago(3700))

    assert judge(replace(GOOD, last_new=ago(3600)), NOW, rules).reason is None
    assert judge(old, NOW).reason is None
    assert judge(old, NOW, rules) == HealthStatus(
        JobStatus.UNHEALTHY, HealthReason.STALE_DATA, ago(100), 60
    )


def test_a_source_that_fails_is_named_with_its_error_and_since_when() -> None:
    dead = replace(BET9JA, history=(FAILURE,) * 4, failures=4, last_error="no such host")
    facts = replace(GOOD, sources=(dead, BETPAWA))

    verdict = judge(facts, NOW)

    assert verdict.text == "unhealthy (source_failing: bet9ja)"
    assert (verdict.since, verdict.sources) == (ago(360), ("bet9ja",))
    assert sentence(facts, verdict) == "bet9ja failed in the last 4 runs: no such host"


def test_a_source_recovers_by_the_rules_of_jobs() -> None:
    once = replace(BET9JA, history=(SUCCESS, *[FAILURE] * 3), failures=0)
    facts = replace(GOOD, sources=(once, BETPAWA))

    assert judge(facts, NOW).reason is None
    assert judge(facts, NOW, HealthRules(recovered_after=2)).sources == ("bet9ja",)


def test_a_source_with_nothing_new_within_the_freshness_of_its_job_is_named() -> None:
    rules = HealthRules(fresh={"j": 3600})
    quiet = SourceFacts("bet9ja", (SUCCESS,) * 3, last_new=ago(3700))
    facts = replace(GOOD, last_new=ago(60), sources=(quiet, BETPAWA))

    verdict = judge(facts, NOW, rules)

    assert (verdict.sources, verdict.since) == (("bet9ja",), ago(100))
    assert sentence(facts, verdict).startswith("bet9ja has stored nothing new since ")
    assert judge(facts, NOW).reason is None


@pytest.mark.parametrize("case", CASES)
def test_every_reason_can_be_said_in_a_sentence(case: str) -> None:
    facts, _, reason = CASES[case]

    assert bool(sentence(facts, judge(facts, NOW))) == (reason is not None)


def test_a_clock_behind_the_last_run_reads_age_zero() -> None:
    verdict = judge(replace(GOOD, last_run=ago(-5)), NOW)

    assert (verdict.status, verdict.age_seconds) == (JobStatus.HEALTHY, 0)


def test_overdue_counts_from_the_instant_at_which_silence_was_too_long() -> None:
    verdict = judge(replace(GOOD, last_run=ago(1000)), NOW)

    assert verdict.since == ago(400)


def test_a_pause_is_no_fault_but_no_jobs_at_all_are_not_well() -> None:
    healthy, paused = HealthStatus(JobStatus.HEALTHY), HealthStatus(JobStatus.PAUSED)

    assert all_healthy([healthy, paused])
    assert not all_healthy([healthy, HealthStatus(JobStatus.NOT_STARTED)])
    assert not all_healthy([])


def test_a_job_of_a_cron_expression_is_no_fault_before_its_first_instant_is_over() -> None:
    yearly = JobFacts(job="j", interval_seconds=365 * 86_400, silent_after=NOW)

    assert all_healthy([judge(yearly, NOW)])
    assert not all_healthy([judge(yearly, NOW + timedelta(seconds=1))])
    assert not all_healthy([judge(JobFacts(job="j", interval_seconds=300), NOW)])


instants = st.datetimes(timezones=st.just(UTC))
facts = st.builds(
    JobFacts,
    job=st.just("j"),
    last_run=st.none() | instants,
    last_success=st.none() | instants,
    last_status=st.none() | st.sampled_from(RunStatus),
    next_run=st.none() | instants,
    interval_seconds=st.none() | st.floats(),
    enabled=st.booleans(),
    paused_at=st.none() | instants,
    running_since=st.none() | instants,
    consecutive_failures=st.none() | st.integers(),
    registered_at=st.none() | instants,
    history=st.lists(st.none() | st.sampled_from(RunStatus)).map(tuple),
    skip_streak=st.none() | st.integers(),
    late_by=st.none() | st.floats(),
    grace_seconds=st.none() | st.floats(0, 1e6),
    breach=st.none() | st.sampled_from([HealthReason.DRIFT, HealthReason.STALE_DATA]),
    sources=st.lists(
        st.builds(
            SourceFacts,
            source=st.sampled_from(["one", "two"]),
            history=st.lists(st.none() | st.sampled_from(RunStatus), max_size=5).map(tuple),
            last_new=st.none() | instants,
        ),
        max_size=2,
    ).map(tuple),
)


@given(known=facts, now=instants)
def test_whatever_is_known_a_verdict_comes_and_has_a_reason_unless_healthy(
    known: JobFacts, now: datetime
) -> None:
    verdict = judge(known, now)

    sentence(known, verdict)
    assert (verdict.reason is None) == (verdict.status is JobStatus.HEALTHY)


@given(known=facts, interval=st.floats(0.001, 1e8), over=st.floats(0.001, 1e8))
def test_silence_longer_than_twice_the_interval_never_reads_healthy(
    known: JobFacts, interval: float, over: float
) -> None:
    silent = replace(known, interval_seconds=interval, last_run=ago(2 * interval + over))

    verdict = judge(silent, NOW)

    assert verdict.status is not JobStatus.HEALTHY
    if verdict.status is JobStatus.UNHEALTHY:
        assert verdict.reason is HealthReason.OVERDUE


@given(known=facts, late=st.floats(0.001, 1e8))
def test_a_cron_that_was_silent_for_too_long_never_reads_healthy(
    known: JobFacts, late: float
) -> None:
    verdict = judge(replace(known, silent_after=ago(late)), NOW)

    assert verdict.status is not JobStatus.HEALTHY


@given(st.lists(st.none() | st.sampled_from([RunStatus.SUCCESS, RunStatus.CANCELLED])))
def test_what_our_own_network_did_is_never_blamed_on_the_job(
    history: list[RunStatus | None],
) -> None:
    verdict = judge(replace(FAILED, history=tuple(history)), NOW)

    assert verdict.reason in {None, HealthReason.UNKNOWN}
