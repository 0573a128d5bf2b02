"""Verifies that every tick of a schedule has exactly one outcome, and explains single ticks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.core.enums import TickOutcome
from app.core.errors import BadSchedule
from app.ledger.stored_schedules import read_schedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection, Pool
from app.store.reports import proof as store
from app.store.reports.proof import ProvenTicks, RecordedTicks, VersionRow
from app.store.schedules import schedule_rows, tick_days
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

    def add(self, part: "TickAccount") -> None:
        """Add the counts of one version."""
        self.expected += part.expected
        self.ran += part.ran
        self.skipped += part.skipped
        self.missed += part.missed
        self.duplicates += part.duplicates
        self.unaccounted += part.unaccounted
        self.unexpected += part.unexpected
        self.pruned += part.pruned
        self.examples += part.examples[: MAX_EXAMPLES - len(self.examples)]

    @property
    def consistent(self) -> bool:
        """Whether every tick has exactly one outcome."""
        return not (self.unaccounted or self.duplicates or self.unexpected)


async def verify(pool: Pool, now: datetime) -> list[TickAccount]:
    """Count all ticks of every schedule by outcome, in one snapshot of the database."""
    return await _verify(pool, now, [], only_new=False)


async def verify_new(pool: Pool, now: datetime) -> list[TickAccount]:
    """As `verify`, but count only the ticks after those that were found consistent before.

    The numbers are of all ticks; what is found consistent now is not counted the next time.
    """
    proven: list[ProvenTicks] = []
    accounts = await _verify(pool, now, proven, only_new=True)
    await store.mark_proven(pool, proven)
    return accounts


async def _verify(
    pool: Pool, now: datetime, proven: list[ProvenTicks], *, only_new: bool
) -> list[TickAccount]:
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await tick_days.lock_days(connection)
        # A plan that was made for counting all ticks would read them all to count the new ones.
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        states = await schedule_rows.all_of(connection)
        versions = await store.versions(connection)
        stuck = await store.count_stuck(connection, now)
        accounts: list[TickAccount] = []
        for state in states:
            stored = versions.get(state.id, [])
            account = await _account(connection, state, stored, proven, only_new=only_new)
            account.stuck = stuck.get(state.id, 0)
            accounts.append(account)
        return accounts


async def _account(
    connection: Connection,
    state: ScheduleState,
    stored: Sequence[VersionRow],
    proven: list[ProvenTicks],
    *,
    only_new: bool,
) -> TickAccount:
    """Count the ticks of one schedule; add what was found consistent to `proven`."""
    account = TickAccount(state.key, state.evaluated_through, unreadable=fault_of(state))
    # Without its schedule, a gap that has grown cannot be divided: all of a version is counted.
    versions = [one.after_proven() if only_new and _is_readable(one) else one for one in stored]
    found: list[ProvenTicks] = []
    for known, version in zip(stored, versions, strict=True):
        part = TickAccount(state.key, state.evaluated_through)
        after = version.since if version is not known else None
        # The last version may have outcomes after its frontier, which would be too many.
        if after is None or version.since < version.until or known is stored[-1]:
            readable = await _compare(connection, version, part, after)
            if readable and part.consistent and (after is None or version.since < version.until):
                found.append(_proven(known, part))
        else:
            _count_pruned(part, version)
        part.pruned = sum(known.pruned.values())
        account.add(part)
    new_since = [one.since for one in versions if one.since < one.until]
    since = min(new_since, default=state.evaluated_through) if only_new else None
    inconsistent = await store.count_inconsistent(connection, state.id, since)
    account.duplicates += inconsistent
    if not inconsistent:
        proven.extend(found)
    return account


def _is_readable(version: VersionRow) -> bool:
    try:
        Schedule.from_spec(version.spec, stamp=version.zone_data)
    except BadSchedule:
        return False
    return True


def _proven(version: VersionRow, part: TickAccount) -> ProvenTicks:
    counts = {
        TickOutcome.RAN.value: part.ran,
        **{f"{TickOutcome.SKIPPED.value}:{reason}": n for reason, n in part.skipped.items()},
        **{f"{TickOutcome.MISSED.value}:{reason}": n for reason, n in part.missed.items()},
    }
    return ProvenTicks(
        version.schedule_id,
        version.version,
        version.pruned_through,
        version.until,
        part.expected,
        {name: count for name, count in counts.items() if count},
    )


async def _compare(
    connection: Connection, version: VersionRow, account: TickAccount, after: datetime | None
) -> bool:
    """Merge the expected ticks of a version with the stored answers, both in order of time.

    Only those after `after`, unless it is None. Returns False if the version cannot be read.
    """
    _count_pruned(account, version)
    try:
        schedule = Schedule.from_spec(version.spec, stamp=version.zone_data)
    except BadSchedule:
        await _count_recorded(connection, version, account)
        return False
    expected = schedule.ticks(version.since, version.until)
    last: datetime | None = None
    tick = next(expected, None)
    async for row in store.recorded_ticks(connection, version, after):
        answer = row if after is None else _rest_of(row, schedule, after)
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
    return True


def _rest_of(gap: RecordedTicks, schedule: Schedule, after: datetime) -> RecordedTicks:
    """Return the part of a gap after `after`, if it began before: it grew since it was proven."""
    if gap.first > after:
        return gap
    proven = schedule.count(gap.first - timedelta(microseconds=1), after)
    return replace(gap, first=schedule.next(after), count=gap.count - proven)


async def _count_recorded(
    connection: Connection, version: VersionRow, account: TickAccount
) -> None:
    """Count the outcomes of a version that cannot be read any more: nothing tells its ticks."""
    last: datetime | None = None
    async for answer in store.recorded_ticks(connection, version, None):
        _count_answer(account, answer)
        account.expected += answer.count
        account.duplicates += last is not None and answer.first <= last
        last = answer.last


def fault_of(state: ScheduleState) -> str | None:
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
