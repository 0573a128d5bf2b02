"""Independent count of every tick: plain SQL, stored zone data, own arithmetic, no `app`."""

import argparse
import asyncio
import json
import os
import sys
import zoneinfo
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

zoneinfo.reset_tzpath(())  # the pinned tzdata package, never the machine's zones

EPILOG = """example: scripts/recount --database-url postgresql://localhost/rollcall --json
exit codes: 0 every tick has one outcome that nothing contradicts, 1 not so, 2 it cannot count"""
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
MONTHS, DAYS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", "SUN MON TUE WED THU FRI SAT"
VERSIONS = """
SELECT v.version, v.spec::text, v.policies::text, z.data,
       coalesce(v.pruned_through, v.effective_from) AS since,
       coalesce(v.answers_until, s.evaluated_through) AS until, v.pruned_expected, v.pruned::text
FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id LEFT JOIN zone_data z
  ON z.stamp = v.zone_data AND z.zone = v.spec ->> 'timezone' WHERE s.id = $1 ORDER BY 1
"""
ANSWERS = """
SELECT scheduled_for AS first, scheduled_for AS last, 1::bigint AS count, outcome, reason
FROM ticks WHERE schedule_id = $1 AND version = $2
UNION ALL SELECT first_tick, last_tick, count, outcome, reason
FROM tick_gaps WHERE schedule_id = $1 AND version = $2 ORDER BY 1, 2
"""
ALIVE = """
SELECT lower(alive), upper(alive) FROM (SELECT unnest(range_agg(tstzrange(since, until, '[]')))
  AS alive FROM worker_beats) AS spans ORDER BY 1
"""
# Runs are kept for at least a day, so a younger one that does not exist was not pruned.
PROBLEMS = """
SELECT 'doubled', r.scheduled_for, 'is not recorded as ran by run ' || r.execution_id
FROM runs r LEFT JOIN ticks t ON t.run_id = r.execution_id AND t.schedule_id = r.schedule_id
  AND t.scheduled_for = r.scheduled_for
WHERE r.schedule_id = $1 AND r.trigger = 'scheduled' AND t.run_id IS NULL
  AND r.scheduled_for > coalesce((SELECT max(pruned_through) FROM schedule_versions
                                  WHERE schedule_id = $1), '-infinity')
UNION ALL SELECT 'contradicted', t.scheduled_for, 'ran, but its run does not exist'
FROM ticks t LEFT JOIN runs r ON r.execution_id = t.run_id
WHERE t.schedule_id = $1 AND t.outcome = 'ran' AND r.execution_id IS NULL
  AND t.decided_at > (SELECT max(decided_at) FROM ticks) - interval '1 day'
UNION ALL SELECT 'contradicted', t.scheduled_for, 'is blocked by a run that had ended'
FROM ticks t JOIN runs r ON r.execution_id = t.blocking_run_id
WHERE t.schedule_id = $1 AND t.reason = 'overlap'
  AND r.completed_at < t.decided_at - interval '5 seconds' ORDER BY 1, 2
"""


@dataclass
class Count:
    """The ticks of one schedule up to its frontier."""

    id: int
    key: str
    expected: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    unaccounted: int = 0
    invented: int = 0
    doubled: int = 0
    contradicted: int = 0
    faults: list[str] = field(default_factory=list[str])

    @property
    def sound(self) -> bool:
        """Whether every tick has one outcome, and nothing contradicts it."""
        return not (self.unaccounted or self.invented or self.doubled or self.contradicted)


def expected_ticks(
    spec: dict[str, Any], after: datetime, until: datetime, data: bytes | None = None
) -> list[datetime]:
    """Return a stored schedule's instants in (after, until]. Raises ValueError or KeyError."""
    if "every_seconds" in spec:
        step = timedelta(seconds=spec["every_seconds"])
        anchor = datetime.fromisoformat(spec["anchor"])
        numbers = range((after - anchor) // step + 1, (until - anchor) // step + 1)
        return [anchor + number * step for number in numbers]
    zone = ZoneInfo.from_file(BytesIO(data)) if data else ZoneInfo(spec["timezone"])
    *second, minute, hour, _, _, _ = spec["cron"].split()
    fixed = not second and not minute.startswith("*") and not hour.startswith("*")
    first = after.astimezone(zone).date() - 2 * DAY
    walls = _walls(spec["cron"], first, (until - after) // DAY + 5)
    found = {at for wall in walls for at in _instants(wall, zone, fixed=fixed)}
    return sorted(at for at in found if after < at <= until)


def _walls(expression: str, first: date, days: int) -> Iterator[datetime]:
    second, minute, hour, dom, month, dow = ["0", *expression.upper().split()][-6:]
    seconds, minutes, hours = _set(second, 0, 59), _set(minute, 0, 59), _set(hour, 0, 23)
    times = [time(h, m, s) for h in hours for m in minutes for s in seconds]
    months = _set(month, 1, 12, MONTHS)
    combine = all if dom.startswith("*") or dow.startswith("*") else any
    for day in (first + number * DAY for number in range(days)):
        if day.month in months and combine((_in_month(day, dom), _in_week(day, dow))):
            yield from (datetime.combine(day, at) for at in times)


def _set(text: str, low: int, high: int, names: str = "") -> list[int]:
    numbers = {name: low + index for index, name in enumerate(names.split())}
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        start = low if span == "*" else int(numbers.get(first, first))
        stop = high if span == "*" or (step and not last) else int(numbers.get(last, last or start))
        found.update(range(start, stop + 1, int(step or 1)))
    return sorted(found)


def _in_month(day: date, text: str) -> bool:
    last = monthrange(day.year, day.month)[1]
    special = {"L": last, "LW": last - max(0, day.replace(day=last).weekday() - 4)}
    parts = [str(special.get(part, part)) for part in text.split(",")]
    return day.day in _set(",".join(parts), 1, 31)


def _in_week(day: date, text: str) -> bool:
    last, week = monthrange(day.year, day.month)[1], (day.day + 6) // 7
    for part in text.split(","):
        name, _, nth = part.partition("#")
        days = {number % 7 for number in _set(name.removesuffix("L"), 0, 7, DAYS)}
        fits = day.day + 7 > last if name.endswith("L") else nth in ("", str(week))
        if fits and day.isoweekday() % 7 in days:
            return True
    return False


def _instants(wall: datetime, zone: ZoneInfo, *, fixed: bool) -> list[datetime]:
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    found = [at for at in (first, second) if at.astimezone(zone).replace(tzinfo=None) == wall]
    if not fixed or found:
        return found[:1] if fixed else found
    # The wall clock skips it: the first second after the change of the offset.
    while first - second > SECOND:
        middle = second + (first - second) // (2 * SECOND) * SECOND
        skipped = middle.astimezone(zone).replace(tzinfo=None) > wall
        first, second = (middle, second) if skipped else (first, middle)
    return [first]


async def recount(dsn: str) -> list[Count]:
    """Count the ticks of every schedule in one snapshot of the database."""
    connection: Any = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            beats = await connection.fetch(ALIVE)
            schedules = await connection.fetch("SELECT id, key FROM schedules ORDER BY key")
            counts = [Count(id_, key) for id_, key in schedules]
            for count in counts:
                for version in await connection.fetch(VERSIONS, count.id):
                    answers = await connection.fetch(ANSWERS, count.id, version["version"])
                    _compare(count, version, answers, beats)
                for kind, tick, problem in await connection.fetch(PROBLEMS, count.id):
                    setattr(count, kind, getattr(count, kind) + 1)
                    count.faults.append(f"the tick of {tick} {problem}")
            return counts
    finally:
        await connection.close()


def _compare(count: Count, version: Any, answers: list[Any], beats: list[Any]) -> None:
    pruned: dict[str, int] = json.loads(version["pruned"])
    count.outcomes.update(pruned)
    _differ(count, version["pruned_expected"], sum(pruned.values()), "among the pruned ticks")
    spec, policies = json.loads(version["spec"]), json.loads(version["policies"])
    expected = None
    try:
        expected = expected_ticks(spec, version["since"], version["until"], version["data"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        count.faults.append(f"version {version['version']} is unreadable: {error}")
    through, matched = None, 0
    for first, last, number, outcome, reason in answers:
        count.outcomes[":".join(filter(None, (outcome, reason)))] += number
        if through is not None and first <= through:
            count.doubled += 1
            count.faults.append(f"the tick of {first} has two outcomes")
            continue
        inside, through = [first, last], last
        if expected is not None:
            inside = expected[bisect_left(expected, first) : bisect_right(expected, last)]
        derived = number if expected is None else len(inside)
        _differ(count, derived, number, f"from {first} to {last}")
        matched += derived
        _contradict(count, reason, inside, policies, beats)
    if expected is not None:
        _differ(count, len(expected) - matched, 0, f"up to {version['until']}")


def _differ(count: Count, expected: int, answered: int, where: str) -> None:
    count.expected += expected
    count.unaccounted += max(expected - answered, 0)
    count.invented += max(answered - expected, 0)
    if expected != answered:
        count.faults.append(f"{expected} ticks, {answered} outcomes {where}")


def _contradict(count: Count, why: str, ticks: list[Any], policies: Any, beats: list[Any]) -> None:
    seconds = policies.get("misfire_grace_seconds", 60) + policies.get("jitter_seconds", 0)
    for tick in ticks if why in ("scheduler_down", "clock_jump", "late") else ():
        end = tick + seconds * SECOND
        index = bisect_right(beats, tick, key=itemgetter(1))
        since, until = beats[index] if index < len(beats) else (end, end)
        wrong = since <= tick and end <= until
        if why == "late":  # unless older heartbeats may have been pruned
            wrong = bool(beats) and beats[0][0] <= tick and since >= end
        if wrong:
            count.contradicted += 1
            count.faults.append(f"the tick of {tick} is missed ({why}) against the heartbeats")


def main() -> int:
    """Count, print the result and return the exit code."""
    parser = argparse.ArgumentParser("scripts/recount", None, __doc__, EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"))  # noqa: TID251 - imports nothing of app
    parser.add_argument("--json", action="store_true", help="one JSON object for each schedule")
    asked = parser.parse_args()
    if not asked.database_url:
        parser.error("set DATABASE_URL or pass --database-url")
    try:
        counts = asyncio.run(recount(asked.database_url))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        sys.stderr.write(f"cannot count: {error}\n")
        return 2
    for count in counts:
        numbers = ((name, n) for name, n in vars(count).items() if isinstance(n, int))
        line = ", ".join(f"{number} {name}" for name, number in numbers)
        text = "\n  ".join([f"{count.key}: {line}", *count.faults])
        print(json.dumps(vars(count) | {"sound": count.sound}) if asked.json else text)
    return 0 if all(count.sound for count in counts) else 1


if __name__ == "__main__":
    sys.exit(main())
