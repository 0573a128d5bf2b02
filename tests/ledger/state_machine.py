"""The ledger as a machine of Hypothesis: whatever happens in whatever order, every tick answers."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.core import zone_data
from app.core.enums import Coalesce, Overlap, RunStatus
from app.core.errors import BadSchedule, UnknownJob
from app.ledger import decide, proof, stored_schedules
from app.ledger import edit as ledger
from app.ledger.edit import DeclaredSchedule
from app.maintenance import tick_retention
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.content import partitions
from app.store.db import Pool
from app.store.runs import attempt_rows, run_rows
from app.store.runs.attempt_rows import ClaimedRun, RunEnding
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats, schedule_rows, zones
from app.store.schedules.schedule_rows import DueQuery
from scripts import recount
from tests import single_run
from tests.ledger.lossy_pool import attempted

T = TypeVar("T")
Step = Callable[[Pool], Coroutine[Any, Any, list[QueuedRun]]]

KEYS = ("first", "second")
# An hour and a half before Berlin's clocks go forward.
START = datetime(2026, 3, 28, 23, 29, 58, tzinfo=UTC)
ZONES = ("Europe/Berlin", "Australia/Lord_Howe", "Asia/Tokyo")
LEASE = 15.0
SETTLED = timedelta(seconds=3)
FINAL = tuple(status for status in RunStatus if status not in (RunStatus.QUEUED, RunStatus.RUNNING))
ENDINGS = tuple(status for status in FINAL if status is not RunStatus.LOST)

EMPTY = """
DELETE FROM runs; DELETE FROM schedules; DELETE FROM worker_beats; DELETE FROM zone_data
"""

WINDOWS = """
SELECT v.schedule_id, v.version, v.effective_from, v.answers_until, s.retired_at,
       later.effective_from AS next, later.reason
FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id
LEFT JOIN schedule_versions later
  ON later.schedule_id = v.schedule_id AND later.version = v.version + 1
"""

ANSWERED = """
SELECT EXISTS (SELECT 1 FROM ticks WHERE schedule_id = $1 AND scheduled_for = $2)
    OR EXISTS (SELECT 1 FROM tick_gaps WHERE schedule_id = $1
               AND $2::timestamptz BETWEEN first_tick AND last_tick)
    OR EXISTS (SELECT 1 FROM schedule_versions WHERE schedule_id = $1 AND pruned_through >= $2)
"""

# A run whose start was told more often than it was claimed, or that is open and yet ended.
CONFUSED = """
SELECT count(*) FROM runs r
WHERE (r.status IN ('queued', 'running')) <> (r.completed_at IS NULL)
   OR r.duration_seconds < 0
   OR (r.status = 'running') <> (r.lease_expires_at IS NOT NULL)
   OR (SELECT count(*) FROM run_events e WHERE e.execution_id = r.execution_id
       AND e.event = 'started') > r.lease_epoch
   OR (SELECT count(*) FROM run_events e WHERE e.execution_id = r.execution_id
       AND e.event = 'finished') > 1
"""

# Retention: runs that have ended go on their own terms, before or after their ticks.
PRUNE_RUNS = "DELETE FROM runs WHERE schedule_id = $1 AND completed_at < $2"

BREAK = """
UPDATE schedules SET spec = '{"cron": "0 9 * * *", "timezone": "Mars/Phobos"}' WHERE key = $1
"""
BREAK_VERSION = """
UPDATE schedule_versions v SET spec = s.spec
FROM schedules s WHERE s.key = $1 AND s.id = v.schedule_id AND v.version = s.version
"""


def _policies(
    grace: float, modes: tuple[Coalesce, Overlap], jitter: float, most: tuple[int, int]
) -> Policies | None:
    coalesce, overlap = modes
    many: dict[str, Any] = {"catch_up": most[1]} if coalesce is Coalesce.ALL else {}
    try:
        return Policies(
            misfire_grace=timedelta(seconds=grace),
            coalesce=coalesce,
            overlap=overlap,
            jitter=timedelta(seconds=jitter),
            max_attempts=most[0],
            **many,
        )
    except BadSchedule:
        return None


POLICIES = st.builds(
    _policies,
    st.sampled_from((1, 30, 60, 3600, 86_400)),
    st.tuples(st.sampled_from(Coalesce), st.sampled_from(Overlap)),
    st.sampled_from((0, 0, 3, 45)),
    st.tuples(st.integers(1, 3), st.sampled_from((1, 3, 60))),
).filter(lambda policies: policies is not None)

SCHEDULES = st.one_of(
    st.sampled_from((7.0, 10.0, 60.0, 61.5, 300.0, 3600.0)).map(Schedule.every),
    st.sampled_from(
        (
            ("* * * * *", "UTC"),
            ("*/5 * * * *", "Europe/Berlin"),
            ("30 2 * * *", "Europe/Berlin"),
            ("@hourly", "Australia/Lord_Howe"),
            ("10 */3 * * *", "Australia/Lord_Howe"),
            ("15,45 0-5 * * *", "Europe/Berlin"),
            ("*/20 * * * * *", "UTC"),
        )
    ).map(lambda said: Schedule.cron(*said)),
)
EXCLUDED = st.sampled_from(
    ((), (), ("sun",), ("22:00-06:00",), ("2026-03-29T02:30/2026-03-29T04:00", "mon 0:00-12:00"))
)


def _excluding(
    wording: tuple[Schedule, Policies], rules: tuple[str, ...], zone: str
) -> tuple[Schedule, Policies]:
    schedule, policies = wording
    exclude = Exclusions(rules, schedule.timezone or zone, end="2026-03-31")
    return schedule, replace(policies, exclude=exclude) if rules else policies


WORDINGS = st.builds(_excluding, st.tuples(SCHEDULES, POLICIES), EXCLUDED, st.sampled_from(ZONES))
A_KEY = st.sampled_from(KEYS)
WHILE = st.one_of(
    st.sampled_from((0.0, 0.5, 1.0, 4.0, 10.0, 60.0)), st.floats(0, 100).map(lambda s: round(s, 3))
)
# What is drawn must not hang on who won a race: a number, not one of those that there are.
WHICH = st.integers(0, 9)
LONG = st.sampled_from((301.0, 1500.0, 4000.0, 40_000.0, 90_000.0))

IN_LINE = """
SELECT 1 FROM runs mine JOIN schedules s ON s.id = mine.schedule_id
JOIN runs o ON o.schedule_id = s.id AND o.execution_id <> mine.execution_id
WHERE mine.execution_id = $1 AND s.policies ->> 'overlap' = 'queue_one'
  AND (o.status = 'running' OR o.status = 'queued' AND o.scheduled_for < mine.scheduled_for)
"""


class LedgerMachine(RuleBasedStateMachine):
    """Two schedules, a clock that is set by hand, a Redis that is a set, workers that may die."""

    def __init__(self, runner: asyncio.Runner, pool: Pool, dsn: str) -> None:
        super().__init__()
        self.run = runner.run
        self.pool = pool
        self.dsn = dsn
        self.now = START
        self.latest = START
        self.wordings: dict[str, DeclaredSchedule] = {}
        self.redis: dict[tuple[UUID, int], None] = {}
        self.queued_attempts: set[tuple[UUID, int]] = set()
        self.held: list[ClaimedRun] = []
        self.beat_id: int | None = None
        self.frontiers: dict[str, datetime] = {}
        self.announced: dict[str, datetime] = {}
        self.zone_versions = 0
        self.run(pool.execute(EMPTY))

    @initialize(first=WORDINGS, second=WORDINGS)
    def declare(self, first: Any, second: Any) -> None:
        for key, (schedule, policies) in zip(KEYS, (first, second), strict=True):
            self.wordings[key] = DeclaredSchedule(key, "job", schedule, policies)
        self.restart()

    # Time

    @rule(seconds=WHILE)
    def time_passes(self, seconds: float) -> None:
        self._to(self.now + timedelta(seconds=seconds))

    @rule()
    def until_the_next_start(self) -> None:
        due = [s.due_at for s in self._states() if s.due_at is not None and s.due_at > self.now]
        if due:
            self._to(min(due))

    @rule(seconds=LONG)
    def long_silence(self, seconds: float) -> None:
        self.beat_id = None
        self._to(self.now + timedelta(seconds=seconds))

    @rule(seconds=LONG)
    def the_clock_leaps(self, seconds: float) -> None:
        self._to(self.now + timedelta(seconds=seconds))
        self.beat_id = self.run(
            heartbeats.start_interval(self.pool, "worker", self.now, jumped=True)
        )

    @rule(seconds=st.sampled_from((1.0, 30.0, 3700.0, 90_000.0)))
    def the_clock_goes_back(self, seconds: float) -> None:
        self._to(max(self.now - timedelta(seconds=seconds), START - timedelta(days=1)))

    @rule()
    def beat(self) -> None:
        if self.beat_id is None:
            self.beat_id = self.run(heartbeats.start_interval(self.pool, "worker", self.now))
        else:
            self.run(heartbeats.extend_interval(self.pool, self.beat_id, self.now))

    @rule()
    def stop_beating(self) -> None:
        self.beat_id = None

    # Deciding

    @rule(key=A_KEY)
    def ring(self, key: str) -> None:
        self._hear(self.run(_readable(decide.decide_schedule(self.pool, key, self.now))))

    @rule(key=A_KEY)
    def ring_and_die_before_redis_hears(self, key: str) -> None:
        self.run(_readable(decide.decide_schedule(self.pool, key, self.now)))

    @rule()
    def dispatch(self) -> None:
        for _, key in self.run(schedule_rows.due_built_in(self.pool, DueQuery(self.now, 10))):
            self.ring(key)

    @rule(key=A_KEY, wording=WORDINGS, lag=st.sampled_from((0.0, 2.0, 100.0)))
    def race(self, key: str, wording: Any, lag: float) -> None:
        late = self.now - timedelta(seconds=lag)
        self._reword(key, wording)
        self._hear(
            self.run(
                _together(
                    decide.decide_schedule(self.pool, key, self.now),
                    ledger.edit(self.pool, self.wordings[key], late),
                    decide.decide_schedule(self.pool, key, late),
                    ledger.pause(self.pool, key, self.now, by="a", note="race"),
                    decide.decide_schedule(self.pool, key, self.now),
                    ledger.resume(self.pool, key, late, by="ada"),
                )
            )
        )

    @rule(key=A_KEY)
    def pause(self, key: str) -> None:
        self._hear(self.run(ledger.pause(self.pool, key, self.now, by="a", note="b")))

    @rule(key=A_KEY)
    def resume(self, key: str) -> None:
        self._hear(self.run(ledger.resume(self.pool, key, self.now, by="ada")))

    @rule(key=A_KEY, wording=WORDINGS)
    def edit(self, key: str, wording: Any) -> None:
        self._reword(key, wording)
        self._hear(self.run(ledger.edit(self.pool, self.wordings[key], self.now)))

    @rule(key=A_KEY, enabled=st.booleans())
    def switch(self, key: str, enabled: bool) -> None:
        self._reword(key, None, enabled=enabled)
        self._hear(self.run(ledger.edit(self.pool, self.wordings[key], self.now)))

    @rule()
    def restart(self) -> None:
        declared = list(self.wordings.values())
        self._hear(self.run(ledger.register(self.pool, declared, self.now)))

    @rule(key=A_KEY, wording=WORDINGS, statements=st.integers(1, 12), what=st.integers(0, 3))
    def the_connection_dies(self, key: str, wording: Any, statements: int, what: int) -> None:
        schedule, policies = wording
        wanted = DeclaredSchedule(key, "job", schedule, policies)
        steps: tuple[Step, ...] = (
            lambda pool: _readable(decide.decide_schedule(pool, key, self.now)),
            lambda pool: ledger.edit(pool, wanted, self.now),
            lambda pool: ledger.pause(pool, key, self.now, by="a", note="b"),
            lambda pool: ledger.resume(pool, key, self.now, by="ada"),
        )
        queued = self.run(attempted(steps[what], self.pool, statements))
        if queued is not None:
            self._hear(queued)
            if what == 1:
                self.wordings[key] = wanted

    # Running

    @rule()
    def redis_is_emptied(self) -> None:
        self.redis.clear()

    @rule(which=WHICH)
    def claim(self, which: int) -> None:
        if not self.redis:
            return
        job = list(self.redis)[which % len(self.redis)]
        before = self._look(job[0])
        claimed = self.run(single_run.claim(self.pool, job[0], "worker", self.now, LEASE))
        if claimed is None and before["status"] == "queued":
            assert self._stands_in_line(job[0]), "a free run was refused"
        assert claimed is None or before["status"] == "queued"
        if claimed is None:
            del self.redis[job]
        else:  # the job stays in the queue until it ends: it may be delivered twice
            assert claimed.epoch == before["lease_epoch"] + 1
            self.held.append(claimed)

    @rule(which=WHICH, status=st.sampled_from(ENDINGS))
    def finish(self, which: int, status: RunStatus) -> None:
        if not self.held:
            return
        claimed = self.held.pop(which % len(self.held))
        ours = self._is_ours(claimed)
        assert (
            self.run(single_run.finish(self.pool, claimed, RunEnding(status, self.now, {}))) is ours
        )

    @rule(which=WHICH)
    def hand_back(self, which: int) -> None:
        if not self.held:
            return
        claimed = self.held.pop(which % len(self.held))
        ours = self._is_ours(claimed)
        again = self.run(attempt_rows.release(self.pool, claimed, self.now, "worker stops"))
        assert (again is not None) is ours
        self._hear([again] if again else [])

    @rule()
    def renew(self) -> None:
        held = [(claimed.run_id, claimed.epoch) for claimed in self.held]
        expected = {(c.run_id, c.epoch) for c in self.held if self._is_ours(c)}
        assert self.run(attempt_rows.renew(self.pool, held, self.now, LEASE)) == expected

    @rule()
    def workers_die(self) -> None:
        self.held.clear()

    @rule()
    def sweep(self) -> None:
        self.dispatch()
        again, _ = self.run(run_rows.requeue_expired(self.pool, self.now))
        self._hear(again)
        waiting = self.run(run_rows.queued_runs(self.pool, self.now - SETTLED))
        unknown = [w for w in waiting if (w.run_id, w.attempt) not in self.redis]
        self._hear(self.run(run_rows.requeue(self.pool, unknown, self.now)))

    @rule(days=st.sampled_from((0.0, 0.01, 1.0)), batch=st.sampled_from((3, 1000)))
    def retention_of_ticks(self, days: float, batch: int) -> None:
        for state in self._states():
            before = state.evaluated_through - timedelta(days=days)
            while self.run(tick_retention.prune_ticks(self.pool, state.id, before, batch)):
                pass

    @rule()
    def days_are_created(self) -> None:
        self.run(partitions.create_upcoming(self.pool, self.now, partitions.TICKS))

    @rule(days=st.sampled_from((-3.0, -1.0, 0.0, 1.0)))
    def days_are_dropped(self, days: float) -> None:
        self.run(tick_retention.prune(self.pool, self.now - timedelta(days=days)))

    @rule(days=st.sampled_from((0.0, 0.01, 1.0)))
    def retention_of_runs(self, days: float) -> None:
        for state in self._states():
            before = state.evaluated_through - timedelta(days=days)
            self.run(self.pool.execute(PRUNE_RUNS, state.id, before))

    # What lies underneath changes

    @rule(key=A_KEY)
    def retire(self, key: str) -> None:
        self._hear(self.run(_retired(self.pool, key, self.now)))

    @rule(key=A_KEY)
    def a_hand_breaks_the_schedule(self, key: str) -> None:
        self.run(self.pool.execute(BREAK, key))
        self.run(self.pool.execute(BREAK_VERSION, key))

    @rule(zone=st.sampled_from(ZONES), like=st.sampled_from(ZONES), newer=st.booleans())
    def a_worker_has_other_zone_data(self, zone: str, like: str, newer: bool) -> None:
        self.zone_versions += 1
        data = zone_data.wheel_data(like)
        version = f"{9000 + self.zone_versions}a" if newer else "1999a"
        stamp = zone_data.stamp_of(version, data)
        self.run(self.pool.execute(zones.SAVE, zone, stamp, data))

    @rule()
    def derive_anew(self) -> None:
        for _, key in self.run(zones.outdated(self.pool, [], 10)):
            self._hear(self.run(_readable(ledger.rederive(self.pool, key, self.now))))

    # What holds always

    @invariant()
    def the_books_balance(self) -> None:
        accounts = self.run(proof.verify(self.pool, self.now))
        for account in accounts:
            faults = (account.unaccounted, account.duplicates, account.unexpected)
            assert faults == (0, 0, 0), account
        assert self.run(proof.verify_new(self.pool, self.now)) == accounts

    @invariant()
    def the_frontier_never_moves_back(self) -> None:
        for state in self._states():
            assert state.evaluated_through >= self.frontiers.get(state.key, START)
            self.frontiers[state.key] = state.evaluated_through
            if state.retired_at is not None:
                continue
            assert state.next_tick_at is not None
            assert state.due_at is not None
            assert state.evaluated_through < state.next_tick_at <= state.due_at

    @invariant()
    def what_was_announced_is_answered_or_still_to_come(self) -> None:
        for state in self._states():
            instant = self.announced.get(state.key, state.next_tick_at)
            if instant is not None and not self._is_to_come(state, instant):
                assert self.run(self.pool.fetchval(ANSWERED, state.id, instant)), (state, instant)
            if state.next_tick_at is None:
                self.announced.pop(state.key, None)
            else:
                self.announced[state.key] = state.next_tick_at

    def _is_to_come(self, state: schedule_rows.ScheduleState, instant: datetime) -> bool:
        if state.retired_at is not None or instant <= state.evaluated_through:
            return False
        try:
            schedule = stored_schedules.read_schedule(state)
        except BadSchedule:
            return instant == state.next_tick_at
        return schedule.next(instant - timedelta(microseconds=1)) == instant

    @invariant()
    def versions_follow_each_other_without_a_hole(self) -> None:
        for row in self.run(self.pool.fetch(WINDOWS)):
            if row["next"] is None:
                assert (row["answers_until"] is None) == (row["retired_at"] is None)
            elif row["reason"] == "revived":
                assert row["effective_from"] <= row["answers_until"]
            else:
                assert row["answers_until"] is not None
                assert row["effective_from"] <= row["next"] <= row["answers_until"]

    @invariant()
    def no_run_is_in_two_states(self) -> None:
        assert self.run(self.pool.fetchval(CONFUSED)) == 0

    def teardown(self) -> None:
        if self.wordings:
            self._calm_down()
        super().teardown()

    def _calm_down(self) -> None:
        self.held.clear()
        self.redis.clear()
        self._to(self.latest + timedelta(seconds=LEASE + 1))
        self.restart()
        for key in KEYS:
            self.pause(key)
        open_runs = "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')"
        # Attempts; an edit may have made many open runs wait for each other.
        for _ in range(5 + self.run(self.pool.fetchval(open_runs))):
            self._to(self.now + SETTLED + timedelta(seconds=1))
            self.sweep()
            for run_id, _ in self.redis:
                claimed = self.run(single_run.claim(self.pool, run_id, "worker", self.now, LEASE))
                if claimed is not None:
                    ending = RunEnding(RunStatus.SUCCESS, self.now, {})
                    assert self.run(single_run.finish(self.pool, claimed, ending))
            self.redis.clear()
        assert self.run(self.pool.fetchval(open_runs)) == 0
        self.the_books_balance()
        self.no_run_is_in_two_states()
        self._an_outside_recount_agrees()

    def _an_outside_recount_agrees(self) -> None:
        accounts = self.run(proof.verify(self.pool, self.now))
        counts = self.run(recount.recount(self.dsn))
        for account, count in zip(accounts, counts, strict=True):
            faults = (count.unaccounted, count.invented, count.doubled)
            assert (count.expected, *faults) == (account.expected, 0, 0, 0), (account, count)
            assert not [fault for fault in count.faults if "exclusions" in fault], count

    def _to(self, now: datetime) -> None:
        self.now = now
        self.latest = max(self.latest, now)

    def _stands_in_line(self, run_id: UUID) -> bool:
        open_runs = self.run(self.pool.fetch(IN_LINE, run_id))
        return bool(open_runs)

    def _hear(self, queued: list[QueuedRun]) -> None:
        for run in queued:
            job = (run.run_id, run.attempt)
            assert job not in self.queued_attempts, "the same attempt was queued twice"
            self.queued_attempts.add(job)
            self.redis[job] = None

    def _reword(self, key: str, wording: Any, *, enabled: bool | None = None) -> None:
        old = self.wordings[key]
        schedule, policies = wording or (old.schedule, old.policies)
        enabled = old.enabled if enabled is None else enabled
        self.wordings[key] = DeclaredSchedule(key, "job", schedule, policies, enabled)

    def _states(self) -> list[schedule_rows.ScheduleState]:
        return self.run(schedule_rows.all_of(self.pool))

    def _look(self, run_id: UUID) -> dict[str, Any]:
        return self.run(run_rows.read_run(self.pool, run_id)) or {
            "status": "pruned",
            "lease_epoch": 0,
        }

    def _is_ours(self, claimed: ClaimedRun) -> bool:
        row = self._look(claimed.run_id)
        return row["status"] == "running" and row["lease_epoch"] == claimed.epoch


async def _together(*steps: Coroutine[Any, Any, list[QueuedRun]]) -> list[QueuedRun]:
    answers = await asyncio.gather(*map(_readable, steps))
    return [queued for answer in answers for queued in answer]


async def _readable(step: Coroutine[Any, Any, list[QueuedRun]]) -> list[QueuedRun]:
    """What was queued; nothing for a schedule that cannot be read."""
    try:
        return await step
    except BadSchedule:
        return []


async def _retired(pool: Pool, key: str, now: datetime) -> list[QueuedRun]:
    async with pool.acquire() as connection, connection.transaction():
        try:
            return await ledger.retire_in(connection, key, now)
        except UnknownJob:  # retired already
            return []
