"""The proof: every instant a schedule named is held against what was written of it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.errors import UnknownJob
from app.scheduling.schedule import Schedule
from app.store import proof as store
from app.store import runs, schedules
from app.store.db import Connection, Pool
from app.store.proof import Answer, TickStory, VersionRow
from app.store.schedules import ScheduleState
from app.words import TickOutcome

SHOWN = 5


@dataclass(slots=True)
class Account:
    """What became of every tick of one schedule up to its frontier.

    `unaccounted`: instants without an answer. `invented`: answers for instants never named.
    `pruned`: ticks of which only the numbers are kept; they are among the others.
    """

    key: str
    frontier: datetime
    expected: int = 0
    ran: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    missed: Counter[str] = field(default_factory=Counter[str])
    duplicates: int = 0
    unaccounted: int = 0
    invented: int = 0
    stuck: int = 0
    pruned: int = 0
    examples: list[datetime] = field(default_factory=list[datetime])

    @property
    def sound(self) -> bool:
        """Does every tick have exactly one answer?"""
        return not (self.unaccounted or self.duplicates or self.invented)


async def verify(pool: Pool, now: datetime) -> list[Account]:
    """Count every tick of every schedule, in one snapshot of the database."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        states = await schedules.all_of(connection)
        return [await _account(connection, state, now) for state in states]


async def _account(connection: Connection, state: ScheduleState, now: datetime) -> Account:
    account = Account(state.key, state.evaluated_through)
    for version in await store.versions(connection, state.key):
        await _compare(connection, version, account)
    account.duplicates += await store.doubled(connection, state.id)
    account.stuck = await store.stuck(connection, state.id, now)
    return account


async def _compare(connection: Connection, version: VersionRow, account: Account) -> None:
    _book_pruned(account, version)
    named = Schedule.from_spec(version.spec).ticks(version.since, version.until)
    last: datetime | None = None
    waiting = next(named, None)
    async for answer in store.answers(connection, version):
        _book(account, answer)
        if last is not None and answer.first <= last:
            account.duplicates += 1
            continue
        last = answer.last
        while waiting is not None and waiting < answer.first:
            waiting = _miss(account, waiting, named)
        matched = 0
        while waiting is not None and waiting <= answer.last:
            matched += 1
            account.expected += 1
            waiting = next(named, None)
        account.invented += max(answer.count - matched, 0)
        account.unaccounted += max(matched - answer.count, 0)
    while waiting is not None:
        waiting = _miss(account, waiting, named)


def _book_pruned(account: Account, version: VersionRow) -> None:
    """What was pruned was counted before it went: what was named, and what had become of it."""
    answered = sum(version.pruned.values())
    account.pruned += answered
    account.expected += version.pruned_expected
    account.unaccounted += max(version.pruned_expected - answered, 0)
    account.invented += max(answered - version.pruned_expected, 0)
    for word, count in version.pruned.items():
        outcome, _, reason = word.partition(":")
        if outcome == TickOutcome.RAN:
            account.ran += count
        else:
            tally = account.skipped if outcome == TickOutcome.SKIPPED else account.missed
            tally[reason] += count


def _miss(account: Account, instant: datetime, named: Iterator[datetime]) -> datetime | None:
    account.expected += 1
    account.unaccounted += 1
    if len(account.examples) < SHOWN:
        account.examples.append(instant)
    return next(named, None)


def _book(account: Account, answer: Answer) -> None:
    if answer.outcome is TickOutcome.RAN:
        account.ran += 1
    elif answer.reason is not None:
        tally = account.skipped if answer.outcome is TickOutcome.SKIPPED else account.missed
        tally[answer.reason.value] += answer.count


async def why(pool: Pool, key: str, at: datetime | None) -> list[str]:
    """The chain from schedule to outcome, in sentences. Raises UnknownJob."""
    async with pool.acquire() as connection, connection.transaction():
        return await story(connection, key, at)


async def story(connection: Connection, key: str, at: datetime | None) -> list[str]:
    """The same, as far as this connection may see it. Wants a transaction."""
    state = await schedules.one(connection, key)
    if state is None:
        known = ", ".join(s.key for s in await schedules.all_of(connection)) or "none yet"
        raise UnknownJob(f"there is no schedule {key!r}; known: {known}")
    tick = await store.tick(connection, key, at)
    if tick is None:
        pruned = await store.pruned_through(connection, state.id)
        return [*_about(state), _undecided(state, at, pruned)]
    return [*_about(state), *_decision(tick), *await _run(connection, tick)]


def _about(state: ScheduleState) -> list[str]:
    schedule = Schedule.from_spec(state.spec, name=state.key)
    said = [f"{state.key} is due {schedule.describe()} (version {state.version})."]
    if state.retired_at is not None:
        said.append(f"It was retired at {_at(state.retired_at)}.")
    elif not state.enabled:
        said.append("It is switched off.")
    if state.paused_at is not None:
        said.append(
            f"It is paused since {_at(state.paused_at)} by {state.paused_by}: {state.paused_note}"
        )
    said.append(f"Everything up to {_at(state.evaluated_through)} is decided.")
    return said


def _undecided(state: ScheduleState, at: datetime | None, pruned: datetime | None) -> str:
    if pruned is not None and (at is None or at <= pruned):
        return f"Of ticks up to {_at(pruned)} only the numbers are kept (TICK_DAYS)."
    if at is None:
        return "No tick has been decided yet."
    schedule = Schedule.from_spec(state.spec, name=state.key)
    if schedule.next(at - timedelta(microseconds=1)) == at and at > state.evaluated_through:
        return f"{_at(at)} has not been decided yet."
    return f"{_at(at)} is no instant of this schedule."


def _decision(tick: TickStory) -> list[str]:
    what = tick.outcome.value if tick.reason is None else f"{tick.outcome} ({tick.reason})"
    many = f", with {tick.count - 1} more after it" if tick.count > 1 else ""
    said = [f"The tick of {_at(tick.scheduled_for)}{many} was decided at {_at(tick.decided_at)}:"]
    said[0] += f" {what}."
    if tick.blocking_run_id is not None:
        said.append(f"Run {tick.blocking_run_id} was still open and stood in its way.")
    return said


async def _run(connection: Connection, tick: TickStory) -> list[str]:
    if tick.run_id is None:
        return []
    run = await runs.look(connection, tick.run_id)
    if run is None:
        return [f"It made run {tick.run_id}, which has been pruned since."]
    said = [f"It made run {tick.run_id}, queued at {_at(run['created_at'])}."]
    for event in await store.events(connection, tick.run_id):
        worker = f" on {event['worker']}" if event["worker"] else ""
        detail = f": {event['detail']}" if event["detail"] else ""
        said.append(
            f"Attempt {event['attempt']} {event['event']} at {_at(event['at'])}{worker}{detail}."
        )
    error = f", because {run['error_message']}" if run["error_message"] else ""
    said.append(f"The run is {run['status']}{error}.")
    return said


def _at(instant: datetime) -> str:
    return instant.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")
