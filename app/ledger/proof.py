"""Verifies that every tick of a schedule has exactly one outcome, and explains single ticks."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.core.enums import TickOutcome
from app.core.errors import BadSchedule, UnknownJob, UnknownTick
from app.ledger.decide import read_schedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection, Pool
from app.store.reports import proof as store
from app.store.reports.proof import RecordedTicks, TickDetail, VersionRow
from app.store.runs import run_rows
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import ScheduleState

MAX_EXAMPLES = 5


@dataclass(slots=True)
class TickAccount:
    """Counts of the ticks of one schedule up to its frontier, by outcome.

    `unaccounted`: expected ticks without an outcome. `unexpected`: outcomes for instants that are
    not ticks. `pruned`: ticks of which only counts are kept, included in the other numbers.
    `stuck`: open runs that no worker executes. `examples`: the first unaccounted ticks.
    `unreadable`: why the schedule in force cannot be read; its ticks after the frontier are held.
    """

    key: str
    frontier: datetime
    expected: int = 0
    ran: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    missed: Counter[str] = field(default_factory=Counter[str])
    duplicates: int = 0
    unaccounted: int = 0
    unexpected: int = 0
    stuck: int = 0
    pruned: int = 0
    unreadable: str | None = None
    examples: list[datetime] = field(default_factory=list[datetime])

    @property
    def consistent(self) -> bool:
        """Whether every tick has exactly one outcome."""
        return not (self.unaccounted or self.duplicates or self.unexpected)


async def verify(pool: Pool, now: datetime) -> list[TickAccount]:
    """Count the ticks of every schedule by outcome, in one snapshot of the database."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        states = await schedule_rows.all_of(connection)
        return [await _account(connection, state, now) for state in states]


async def _account(connection: Connection, state: ScheduleState, now: datetime) -> TickAccount:
    account = TickAccount(state.key, state.evaluated_through, unreadable=_fault(state))
    for version in await store.versions(connection, state.key):
        await _compare(connection, version, account)
    account.duplicates += await store.count_inconsistent(connection, state.id)
    account.stuck = await store.count_stuck(connection, state.id, now)
    return account


async def _compare(connection: Connection, version: VersionRow, account: TickAccount) -> None:
    """Merge the expected ticks of a version with the stored answers, both in order of time."""
    _count_pruned(account, version)
    try:
        schedule = Schedule.from_spec(version.spec, stamp=version.zone_data)
    except BadSchedule:
        await _count_recorded(connection, version, account)
        return
    expected = schedule.ticks(version.since, version.until)
    last: datetime | None = None
    tick = next(expected, None)
    async for answer in store.recorded_ticks(connection, version):
        _count_answer(account, answer)
        if last is not None and answer.first <= last:
            account.duplicates += 1
            continue
        last = answer.last
        while tick is not None and tick < answer.first:
            _count_unaccounted(account, tick)
            tick = next(expected, None)
        matched = 0
        while tick is not None and tick <= answer.last:
            matched += 1
            account.expected += 1
            tick = next(expected, None)
        account.unexpected += max(answer.count - matched, 0)
        account.unaccounted += max(matched - answer.count, 0)
    while tick is not None:
        _count_unaccounted(account, tick)
        tick = next(expected, None)


async def _count_recorded(
    connection: Connection, version: VersionRow, account: TickAccount
) -> None:
    """Count the outcomes of a version that cannot be read any more: nothing tells its ticks."""
    last: datetime | None = None
    async for answer in store.recorded_ticks(connection, version):
        _count_answer(account, answer)
        account.expected += answer.count
        account.duplicates += last is not None and answer.first <= last
        last = answer.last


def _fault(state: ScheduleState) -> str | None:
    """Return why the schedule cannot be read; None if it can, or is retired."""
    if state.retired_at is not None:
        return None
    try:
        read_schedule(state, Policies.from_spec(state.policies))
    except BadSchedule as error:
        return str(error)
    return None


def _count_pruned(account: TickAccount, version: VersionRow) -> None:
    """Add the counts of expected ticks and of outcomes that were stored when ticks were pruned."""
    answered = sum(version.pruned.values())
    account.pruned += answered
    account.expected += version.pruned_expected
    account.unaccounted += max(version.pruned_expected - answered, 0)
    account.unexpected += max(answered - version.pruned_expected, 0)
    for name, count in version.pruned.items():
        outcome, _, reason = name.partition(":")
        if outcome == TickOutcome.RAN:
            account.ran += count
        else:
            counter = account.skipped if outcome == TickOutcome.SKIPPED else account.missed
            counter[reason] += count


def _count_unaccounted(account: TickAccount, tick: datetime) -> None:
    account.expected += 1
    account.unaccounted += 1
    if len(account.examples) < MAX_EXAMPLES:
        account.examples.append(tick)


def _count_answer(account: TickAccount, answer: RecordedTicks) -> None:
    if answer.outcome is TickOutcome.RAN:
        account.ran += 1
    elif answer.reason is not None:
        counter = account.skipped if answer.outcome is TickOutcome.SKIPPED else account.missed
        counter[answer.reason.value] += answer.count


async def explain(pool: Pool, key: str, at: datetime | None) -> list[str]:
    """Explain a tick (the latest if `at` is None), from schedule to run, as a list of sentences.

    Raises UnknownJob if there is no such schedule, and UnknownTick if it has no such tick.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await explain_in(connection, key, at)


async def explain_in(connection: Connection, key: str, at: datetime | None) -> list[str]:
    """Do the same as `explain` in the caller's transaction, with the rows visible to its
    connection."""
    state = await schedule_rows.one(connection, key)
    if state is None:
        known = ", ".join(s.key for s in await schedule_rows.all_of(connection)) or "none yet"
        raise UnknownJob(f"there is no schedule {key!r}; known: {known}")
    tick = await store.tick(connection, key, at)
    if tick is None:
        pruned = await store.pruned_through(connection, state.id)
        return [*_about(state), _undecided(state, at, pruned)]
    return [*_about(state), *_decision(tick), *await _run(connection, tick)]


def _about(state: ScheduleState) -> list[str]:
    fault = _fault(state)
    sentences = [f"{state.key} cannot be read; its ticks are held until it is edited: {fault}"]
    if fault is None:
        due = read_schedule(state).describe()
        sentences = [f"{state.key} is due {due} (version {state.version})."]
    if state.retired_at is not None:
        sentences.append(f"It was retired at {_at(state.retired_at)}.")
    elif not state.enabled:
        sentences.append("It is disabled.")
    if state.paused_at is not None:
        until = f" until {_at(state.paused_until)}" if state.paused_until is not None else ""
        sentences.append(
            f"It is paused since {_at(state.paused_at)}{until} by {state.paused_by}:"
            f" {state.paused_note}"
        )
    sentences.append(f"Every tick up to {_at(state.evaluated_through)} is decided.")
    return sentences


def _undecided(state: ScheduleState, at: datetime | None, pruned: datetime | None) -> str:
    if pruned is not None and (at is None or at <= pruned):
        return f"Ticks up to {_at(pruned)} were pruned; only their counts are kept (TICK_DAYS)."
    if at is None:
        return "No tick has been decided yet."
    try:
        schedule = read_schedule(state)
    except BadSchedule:
        return f"{_at(at)} has no outcome."
    if schedule.next(at - timedelta(microseconds=1)) == at and at > state.evaluated_through:
        return f"{_at(at)} has not been decided yet."
    raise UnknownTick(
        f"{_at(at)} is not a tick of {state.key}, which is due {schedule.describe()}"
        f" (version {state.version})"
    )


def _decision(tick: TickDetail) -> list[str]:
    outcome = tick.outcome.value if tick.reason is None else f"{tick.outcome} ({tick.reason})"
    more = f", with {tick.count - 1} more after it" if tick.count > 1 else ""
    sentences = [
        f"The tick of {_at(tick.scheduled_for)}{more} was decided at {_at(tick.decided_at)}:"
        f" {outcome}."
    ]
    if tick.blocking_run_id is not None:
        sentences.append(f"Run {tick.blocking_run_id} was still open and blocked it.")
    return sentences


async def _run(connection: Connection, tick: TickDetail) -> list[str]:
    if tick.run_id is None:
        return []
    run = await run_rows.read_run(connection, tick.run_id)
    if run is None:
        return [f"It created run {tick.run_id}, which has been pruned since."]
    sentences = [f"It created run {tick.run_id}, queued at {_at(run['created_at'])}."]
    for event in await store.events(connection, tick.run_id):
        worker = f" on {event['worker']}" if event["worker"] else ""
        detail = f": {event['detail']}" if event["detail"] else ""
        sentences.append(
            f"Attempt {event['attempt']} {event['event']} at {_at(event['at'])}{worker}{detail}."
        )
    error = f": {run['error_message']}" if run["error_message"] else ""
    sentences.append(f"The run is {run['status']}{error}.")
    return sentences


def _at(instant: datetime) -> str:
    return instant.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")
