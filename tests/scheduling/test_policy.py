"""Rules of decisions: what becomes of each tick, and why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.enums import (
    MISS_REASONS,
    SKIP_REASONS,
    Coalesce,
    Overlap,
    RunStatus,
    TickOutcome,
    TickReason,
)
from app.core.errors import BadSchedule
from app.scheduling.policies import Policies
from app.scheduling.policy import AliveSpan, Decision, DecisionInput, OpenRun, TickResult, decide
from app.scheduling.schedule import Schedule

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
MINUTELY = Schedule.every(60, name="minutely")
RUNNING = OpenRun(UUID(int=1), RunStatus.RUNNING)
QUEUED = OpenRun(UUID(int=2), RunStatus.QUEUED)
LONG_GRACE = Policies(misfire_grace=timedelta(hours=1))

CLOSED = {
    TickOutcome.RAN: frozenset({None}),
    TickOutcome.SKIPPED: SKIP_REASONS,
    TickOutcome.MISSED: MISS_REASONS,
}


def at(minutes: float) -> datetime:
    """An instant so many minutes after noon."""
    return NOON + minutes * MINUTE


def due(ticks: int, policies: Policies = LONG_GRACE) -> DecisionInput:
    """So many minutes since noon are undecided, and a worker was always beating."""
    beats = (AliveSpan(at(-600), at(600)),)
    return DecisionInput(MINUTELY, policies, NOON, at(ticks), beats=beats)


def reasons(decision: Decision) -> list[TickReason | None]:
    return [decided.reason for decided in decision.outcomes]


def test_a_tick_that_is_due_runs() -> None:
    decision = decide(due(1))

    assert decision == Decision((TickResult(at(1), TickOutcome.RAN),), at(1))


def test_nothing_due_decides_nothing_and_leaves_the_frontier() -> None:
    decision = decide(replace(due(1), now=at(0.9)))

    assert decision == Decision((), NOON)


def test_a_clock_gone_back_decides_nothing_and_leaves_the_frontier() -> None:
    decision = decide(replace(due(1), now=at(-500)))

    assert decision == Decision((), NOON)


def test_the_frontier_is_the_last_tick_decided_not_now() -> None:
    decision = decide(replace(due(2), now=at(2.7)))

    assert decision.frontier == at(2)


def test_a_jittered_tick_is_left_until_its_start() -> None:
    policies = Policies(jitter=40 * SECOND)
    start = policies.apply_jitter(MINUTELY).starts_at(at(1))

    early = decide(replace(due(1, policies), now=start - timedelta(microseconds=1)))
    on_time = decide(replace(due(1, policies), now=start))

    assert start > at(1)
    assert early.outcomes == ()
    assert reasons(on_time) == [None]


def test_grace_counts_from_the_jittered_start() -> None:
    policies = Policies(misfire_grace=SECOND, jitter=40 * SECOND)
    start = policies.apply_jitter(MINUTELY).starts_at(at(1))

    last_chance = decide(replace(due(1, policies), now=start + SECOND))
    too_late = decide(replace(due(1, policies), now=start + 1.1 * SECOND))

    assert reasons(last_chance) == [None]
    assert reasons(too_late) == [TickReason.LATE]


def test_a_disabled_schedule_skips_its_ticks() -> None:
    decision = decide(replace(due(2), enabled=False, paused_at=NOON))

    assert reasons(decision) == [TickReason.DISABLED] * 2


def test_ticks_from_the_pause_on_are_paused() -> None:
    decision = decide(replace(due(3), paused_at=at(2)))

    assert reasons(decision) == [None, TickReason.PAUSED, TickReason.PAUSED]


@pytest.mark.parametrize(
    ("beats", "reason"),
    [
        ((), TickReason.SCHEDULER_DOWN),
        ((AliveSpan(at(-9), at(1)), AliveSpan(at(2), at(9))), TickReason.SCHEDULER_DOWN),
        ((AliveSpan(at(2), at(9)), AliveSpan(at(-9), at(1))), TickReason.SCHEDULER_DOWN),
        ((AliveSpan(at(-9), at(1.1)),), TickReason.LATE),
        ((AliveSpan(at(1.9), at(9)),), TickReason.LATE),
        ((AliveSpan(at(1.5), at(1.5)),), TickReason.LATE),
        ((AliveSpan(at(0), at(9)),), TickReason.LATE),
        ((AliveSpan(at(-9), at(1)), AliveSpan(at(5), at(9), jumped=True)), TickReason.CLOCK_JUMP),
        ((AliveSpan(at(2), at(9), jumped=True),), TickReason.CLOCK_JUMP),
        # The clock of one worker jumped while another one was beating:
        ((AliveSpan(at(-9), at(9)), AliveSpan(at(2), at(9), jumped=True)), TickReason.LATE),
        # The jump came after a worker that began without one:
        (
            (AliveSpan(at(3), at(4)), AliveSpan(at(5), at(9), jumped=True)),
            TickReason.SCHEDULER_DOWN,
        ),
        ((AliveSpan(at(1.9), at(9), jumped=True),), TickReason.LATE),
    ],
)
def test_a_missed_tick_says_whether_anybody_lived(
    beats: tuple[AliveSpan, ...], reason: TickReason
) -> None:
    situation = DecisionInput(MINUTELY, Policies(), NOON, at(1) + 61 * SECOND, beats=beats)

    decision = decide(situation)

    assert decision.outcomes[0] == TickResult(at(1), TickOutcome.MISSED, reason)


def test_a_tick_at_the_end_of_its_grace_still_runs() -> None:
    policies = Policies(misfire_grace=30 * SECOND)

    decision = decide(replace(due(1, policies), now=at(1.5)))

    assert reasons(decision) == [None]


def test_coalesce_latest_runs_the_newest_only() -> None:
    decision = decide(due(3))

    assert reasons(decision) == [TickReason.COALESCED, TickReason.COALESCED, None]


def test_coalesce_none_misses_all_but_the_newest() -> None:
    decision = decide(due(3, replace(LONG_GRACE, coalesce=Coalesce.NONE)))

    assert reasons(decision) == [TickReason.LATE, TickReason.LATE, None]


def test_coalesce_none_says_when_nobody_lived() -> None:
    situation = due(3, replace(LONG_GRACE, coalesce=Coalesce.NONE))

    decision = decide(replace(situation, beats=()))

    assert reasons(decision) == [TickReason.SCHEDULER_DOWN, TickReason.SCHEDULER_DOWN, None]


def test_coalesce_none_says_when_nobody_lived_before_the_next_tick() -> None:
    situation = due(3, replace(LONG_GRACE, coalesce=Coalesce.NONE))

    decision = decide(replace(situation, now=at(3.5), beats=(AliveSpan(at(3), at(3.5)),)))

    assert reasons(decision) == [TickReason.SCHEDULER_DOWN, TickReason.SCHEDULER_DOWN, None]


def test_coalesce_all_runs_the_newest_up_to_its_cap() -> None:
    policies = replace(LONG_GRACE, coalesce=Coalesce.ALL, overlap=Overlap.ALLOW, catch_up=2)

    decision = decide(due(4, policies))

    assert reasons(decision) == [TickReason.COALESCED, TickReason.COALESCED, None, None]


@pytest.mark.parametrize(
    ("overlap", "runs", "blocking"),
    [
        (Overlap.SKIP, (), None),
        (Overlap.SKIP, (QUEUED, RUNNING), RUNNING),
        (Overlap.SKIP, (QUEUED,), QUEUED),
        (Overlap.QUEUE_ONE, (), None),
        (Overlap.QUEUE_ONE, (RUNNING,), None),
        (Overlap.QUEUE_ONE, (RUNNING, QUEUED), QUEUED),
        (Overlap.ALLOW, (RUNNING, QUEUED), None),
        (Overlap.CANCEL_RUNNING, (RUNNING, QUEUED), None),
    ],
)
def test_an_open_run_blocks_as_its_overlap_policy_says(
    overlap: Overlap, runs: tuple[OpenRun, ...], blocking: OpenRun | None
) -> None:
    decision = decide(replace(due(1, Policies(overlap=overlap)), open_runs=runs))

    skipped = blocking and TickResult(
        at(1), TickOutcome.SKIPPED, TickReason.OVERLAP, blocking_run=blocking.run_id
    )
    assert decision.outcomes[0] == (skipped or TickResult(at(1), TickOutcome.RAN))


def test_a_backlog_queues_one_and_skips_the_rest() -> None:
    policies = replace(LONG_GRACE, coalesce=Coalesce.ALL, overlap=Overlap.QUEUE_ONE)

    decision = decide(due(4, policies))

    assert reasons(decision) == [None, None, TickReason.OVERLAP, TickReason.OVERLAP]
    assert decision.outcomes[3].blocking_tick == at(2)


def test_cancel_running_names_the_runs_that_give_way() -> None:
    policies = Policies(overlap=Overlap.CANCEL_RUNNING)

    decision = decide(replace(due(1, policies), open_runs=(RUNNING, QUEUED)))

    assert decision.cancel == (RUNNING.run_id, QUEUED.run_id)


def test_nothing_is_cancelled_for_a_tick_that_does_not_run() -> None:
    policies = Policies(overlap=Overlap.CANCEL_RUNNING)

    decision = decide(replace(due(1, policies), open_runs=(RUNNING,), paused_at=NOON))

    assert decision.cancel == ()


def test_an_incomplete_decision_runs_nothing_before_its_time() -> None:
    situation = due(10)

    first = decide(situation, limit=4)
    rest = decide(replace(situation, frontier=first.frontier), limit=100)

    assert not first.complete
    assert reasons(first) == [TickReason.COALESCED] * 4
    assert rest.complete
    assert reasons(rest) == [TickReason.COALESCED] * 5 + [None]


def test_a_week_of_downtime_leaves_one_run() -> None:
    now = NOON + timedelta(weeks=1)

    decision = decide(DecisionInput(MINUTELY, Policies(), NOON, now, beats=(AliveSpan(now, now),)))

    assert len(decision.outcomes) == 10_080
    # The last but one is at the very end of its grace.
    assert reasons(decision)[-2:] == [TickReason.COALESCED, None]
    assert set(reasons(decision)[:-2]) == {TickReason.SCHEDULER_DOWN}


schedules = st.one_of(
    st.builds(
        Schedule.every,
        st.integers(7, 600),
        jitter=st.timedeltas(timedelta(0), timedelta(minutes=2)),
    ),
    st.sampled_from(
        [
            Schedule.cron("* * * * *", "Europe/Berlin"),
            Schedule.cron("*/7 9-12 * * *", "Africa/Casablanca", jitter=MINUTE),
        ]
    ),
)
minutes = st.floats(-30, 30).map(at)


@st.composite
def policies(draw: st.DrawFn) -> Policies:
    coalesce = draw(st.sampled_from(Coalesce))
    every = coalesce is Coalesce.ALL
    overlaps = [Overlap.ALLOW] if every else list(Overlap)
    return Policies(
        misfire_grace=draw(st.timedeltas(SECOND, 40 * MINUTE)),
        coalesce=coalesce,
        overlap=draw(st.sampled_from(overlaps)),
        catch_up=draw(st.integers(1, 5)) if every else 10,
    )


def beating(since: datetime, span: timedelta, jumped: bool) -> AliveSpan:
    return AliveSpan(since, since + span, jumped)


beats = st.builds(beating, minutes, st.timedeltas(timedelta(0), 20 * MINUTE), st.booleans())
situations = st.builds(
    DecisionInput,
    schedule=schedules,
    policies=policies(),
    frontier=minutes,
    now=minutes,
    paused_at=st.none() | minutes,
    enabled=st.sampled_from([True, True, False]),
    open_runs=st.lists(st.sampled_from([RUNNING, QUEUED]), unique=True),
    beats=st.lists(beats, max_size=5),
)


@settings(max_examples=200, deadline=None)
@given(situations)
def test_every_tick_up_to_the_frontier_is_decided_once_and_in_order(
    situation: DecisionInput,
) -> None:
    decision = decide(situation)

    ticks = [decided.tick for decided in decision.outcomes]
    assert ticks == list(situation.schedule.ticks(situation.frontier, decision.frontier))
    assert decision.frontier >= situation.frontier
    assert decision.frontier <= max(situation.now, situation.frontier)
    assert decision.complete
    for decided in decision.outcomes:
        assert decided.reason in CLOSED[decided.outcome]
        blocked = decided.blocking_run is not None or decided.blocking_tick is not None
        assert blocked == (decided.reason is TickReason.OVERLAP)
    waiting = situation.schedule.next(decision.frontier)
    assert waiting > situation.now or situation.schedule.starts_at(waiting) > situation.now


@settings(max_examples=100, deadline=None)
@given(situations, st.timedeltas(-10 * MINUTE, 10 * MINUTE))
def test_deciding_again_later_or_earlier_decides_no_tick_twice(
    situation: DecisionInput, later: timedelta
) -> None:
    first = decide(situation)

    second = decide(replace(situation, frontier=first.frontier, now=situation.now + later))

    ticks = [decided.tick for decided in first.outcomes + second.outcomes]
    assert len(set(ticks)) == len(ticks)
    assert ticks == list(situation.schedule.ticks(situation.frontier, second.frontier))
    assert second.frontier >= first.frontier


@settings(max_examples=100, deadline=None)
@given(situations, st.integers(1, 40))
def test_the_limit_changes_the_pace_and_not_the_outcomes(
    situation: DecisionInput, limit: int
) -> None:
    at_once = decide(situation)

    found: list[TickResult] = []
    step = decide(situation, limit)
    while not step.complete:
        assert len(step.outcomes) <= limit
        found += step.outcomes
        step = decide(replace(situation, frontier=step.frontier), limit)
    found += step.outcomes

    assert tuple(found) == at_once.outcomes


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"coalesce": "all"}, "overlap=skip would skip"),
        ({"coalesce": "all", "overlap": "cancel_running"}, "would cancel"),
        ({"catch_up": 5}, "coalesce=latest runs one"),
        ({"coalesce": "all", "overlap": "allow", "catch_up": 0}, "catch_up 0"),
        ({"coalesce": "all", "overlap": "allow", "catch_up": 1001}, "catch_up 1001"),
        ({"jitter_seconds": 604_800.5}, "jitter_seconds 604800.5; it takes at most 7 days"),
        ({"timeout_seconds": 604_800.5}, "timeout_seconds 604800.5; it takes at most 7 days"),
        ({"max_attempts": 101}, "max_attempts 101"),
        ({"misfire_grace_seconds": 0}, "misfire_grace"),
        ({"misfire_grace_seconds": 604_800.5}, "at most 7 days"),
        ({"misfire_grace_seconds": float("nan")}, "at most 7 days"),
        ({"jitter_seconds": -1}, "jitter"),
        ({"timeout_seconds": 0}, "timeout"),
        ({"timeout_seconds": "240"}, "timeout_seconds must be a number"),
        ({"max_attempts": 0}, "max_attempts 0"),
        ({"max_attempts": 1.5}, "max_attempts must be a whole number"),
        ({"coalesce": "some"}, "none of latest, all, none"),
        ({"overlap": None}, "none of skip, queue_one, cancel_running, allow"),
        ({"grace": 60}, "'grace' is none of"),
    ],
)
def test_policies_that_cannot_work_are_refused(said: dict[str, object], message: str) -> None:
    with pytest.raises(BadSchedule, match=message):
        Policies.from_spec(said)


def test_the_largest_values_are_accepted() -> None:
    week = 604_800
    longest: dict[str, object] = {
        "misfire_grace_seconds": week,
        "jitter_seconds": week,
        "timeout_seconds": week,
    }
    most: dict[str, object] = {
        "coalesce": "all",
        "overlap": "allow",
        "catch_up": 1000,
        "max_attempts": 100,
    }

    assert Policies.from_spec(longest | most).catch_up == 1000


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert Policies().to_spec() == {
        "misfire_grace_seconds": 60,
        "coalesce": "latest",
        "overlap": "skip",
        "catch_up": 10,
        "jitter_seconds": 0,
        "timeout_seconds": 240,
        "max_attempts": 3,
    }


@given(policies())
def test_policies_come_back_from_their_spec(declared: Policies) -> None:
    again = Policies.from_spec(declared.to_spec())

    assert again == declared
