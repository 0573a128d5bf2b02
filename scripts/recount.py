"""Independent count of every tick: plain SQL, stored zone data, own arithmetic, no `app`."""

import argparse
import asyncio
import json
import os
import re
import sys
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo, reset_tzpath

import asyncpg

reset_tzpath(())  # the pinned tzdata package, never the machine's zones

EPILOG = "exit codes: 0 every tick has one outcome that nothing contradicts, 1 not so, 2 no count"
DAY, SECOND, DATE = timedelta(days=1), timedelta(seconds=1), len("2026-12-25")
NOT_ASKED = ("disabled", "paused", "superseded", "unreadable")  # decided before exclusions are
VERSIONS = """SELECT v.version, v.spec::text, v.policies::text, v.pruned_expected, v.pruned::text,
       CASE WHEN v.zone_data <> '' THEN coalesce(z.data, '') END AS data,
       coalesce(v.pruned_through, v.effective_from) AS since,
       coalesce(v.answers_until, s.evaluated_through) AS until
FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id LEFT JOIN zone_data z
  ON z.stamp = v.zone_data AND z.zone = v.spec ->> 'timezone' WHERE s.id = $1 ORDER BY 1"""
ANSWERS = """SELECT scheduled_for, scheduled_for, 1::bigint, outcome, reason FROM ticks
WHERE schedule_id = $1 AND version = $2 UNION ALL SELECT first_tick, last_tick, count, outcome,
  reason FROM tick_gaps WHERE schedule_id = $1 AND version = $2 ORDER BY 1, 2"""
ALIVE = """SELECT lower(a), upper(a) FROM unnest((
  SELECT range_agg(tstzrange(since, until, '[]')) FROM worker_beats)) AS a ORDER BY 1"""
# Runs are kept for at least a day, so a younger one that does not exist was not pruned.
PROBLEMS = """SELECT 'doubled', r.scheduled_for, 'is not recorded as ran by run ' || r.execution_id
FROM runs r LEFT JOIN ticks t USING (schedule_id, scheduled_for)
WHERE schedule_id = $1 AND r.trigger = 'scheduled' AND t.run_id IS DISTINCT FROM r.execution_id
  AND scheduled_for > ALL (SELECT pruned_through FROM schedule_versions WHERE schedule_id = $1
                           AND pruned_through IS NOT NULL)
UNION ALL SELECT 'contradicted', t.scheduled_for, 'ran, but its run does not exist' FROM ticks t
LEFT JOIN runs r ON r.execution_id = t.run_id WHERE t.schedule_id = $1 AND t.outcome = 'ran'
  AND r.execution_id IS NULL AND t.decided_at > (SELECT max(decided_at) FROM ticks) - interval '1 d'
UNION ALL SELECT 'contradicted', t.scheduled_for, 'is blocked by a run that had ended' FROM ticks t
JOIN runs r ON r.execution_id = t.blocking_run_id WHERE t.schedule_id = $1
  AND t.reason = 'overlap' AND r.completed_at < t.decided_at - interval '5 s' ORDER BY 1, 2"""


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


def expected_ticks(spec: Any, after: datetime, until: datetime, data: Any = None) -> list[Any]:
    """Return a stored schedule's instants in (after, until]. Raises ValueError or KeyError."""
    if "every_seconds" in spec:
        step, anchor = spec["every_seconds"] * SECOND, datetime.fromisoformat(spec["anchor"])
        numbers = range((after - anchor) // step + 1, (until - anchor) // step + 1)
        return [anchor + number * step for number in numbers]
    zone = _zone(spec["timezone"], data)
    *second, minute, hour, _, _, _ = spec["cron"].split()
    fixed = not second and not minute.startswith("*") and not hour.startswith("*")
    near = (at + 3 * days for at in (after, until) for days in (-DAY, DAY))
    slack = DAY * (len({at.astimezone(zone).utcoffset() for at in near}) > 1)
    first, last = (at.astimezone(zone).replace(tzinfo=None) for at in (after, until))
    walls = _walls(spec["fields"], first - slack, last + slack)
    found = {at for wall in walls for at in _instants(wall, zone, fixed=fixed)}
    return sorted(at for at in found if after < at <= until)


def _zone(name: str, data: bytes | None) -> ZoneInfo:
    return ZoneInfo(name) if data is None else ZoneInfo.from_file(BytesIO(data))


def _walls(fields: str, first: datetime, last: datetime) -> list[datetime]:
    second, minute, hour, dom, month, dow, combination = fields.split(" ")
    times = [time(h, m, s) for h in _set(hour) for m in _set(minute) for s in _set(second)]
    months, combine = _set(month), all if combination == "and" else any
    days = (first.date() + n * DAY for n in range((last.date() - first.date()).days + 1))
    dates = [day for day in days if day.month in months and combine(_fits(day, dom, dow))]
    return [w for d in dates for at in times if first <= (w := datetime.combine(d, at)) <= last]


def _set(text: str) -> list[int]:
    spans = (part.partition("-") for part in text.split(","))
    return [n for first, _, last in spans for n in range(int(first), int(last or first) + 1)]


def _fits(day: date, dom: str, dow: str) -> tuple[bool, bool]:
    last = monthrange(day.year, day.month)[1]
    special = {"L": last, "LW": last - max(0, day.replace(day=last).weekday() - 4)}
    month = _set(",".join(str(special.get(part, part)) for part in dom.split(",")))
    week = {"": True, str((day.day + 6) // 7): True, "L": day.day + 7 > last}
    parts = (re.findall(r"^([\d-]+)#?(L|\d*)$", part)[0] for part in dow.split(","))
    return day.day in month, any(week.get(n) and day.isoweekday() % 7 in _set(d) for d, n in parts)


def _instants(wall: datetime, zone: ZoneInfo, *, fixed: bool) -> list[datetime]:
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    found = [at for at in (first, second) if at.astimezone(zone).replace(tzinfo=None) == wall]
    if not fixed or found:
        return found[:1] if fixed else found
    # The wall clock skips it: the first second after the change of the offset.
    seconds = [second + n * SECOND for n in range((first - second) // SECOND + 1)]
    skipped = bisect_right(seconds, wall, key=lambda at: at.astimezone(zone).replace(tzinfo=None))
    return [seconds[skipped]]


async def recount(dsn: str) -> list[Count]:
    """Count the ticks of every schedule in one snapshot of the database."""
    db: Any = await asyncpg.connect(dsn)
    try:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            await db.execute("SET LOCAL rollcall.house = 'on'")  # for row-level security
            beats = await db.fetch(ALIVE)
            rows = await db.fetch("SELECT id, key FROM schedules ORDER BY key")
            for count in (counts := [Count(*row) for row in rows]):
                for version in await db.fetch(VERSIONS, count.id):
                    _compare(count, version, await db.fetch(ANSWERS, count.id, version[0]), beats)
                for kind, tick, problem in await db.fetch(PROBLEMS, count.id):
                    setattr(count, kind, getattr(count, kind) + 1)
                    count.faults.append(f"the tick of {tick} {problem}")
            return counts
    finally:
        await db.close()


def _compare(count: Count, version: Any, answers: list[Any], beats: list[Any]) -> None:
    count.outcomes.update(pruned := json.loads(version["pruned"]))
    _differ(count, version["pruned_expected"], sum(pruned.values()), "among the pruned ticks")
    expected, policies, excluded, through, matched = None, {}, set[datetime](), None, 0
    try:
        expected, policies, excluded = _derive(version)
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        count.faults.append(f"version {version['version']} is unreadable: {error}")
    for first, last, number, outcome, reason in answers:
        count.outcomes[":".join(filter(None, (outcome, reason)))] += number
        if through is not None and first <= through:
            count.doubled += 1
            count.faults.append(f"the tick of {first} has two outcomes")
            continue
        through = last
        if expected is None:
            count.expected += number
            continue
        inside = expected[bisect_left(expected, first) : bisect_right(expected, last)]
        _differ(count, len(inside), number, f"from {first} to {last}")
        matched += len(inside)
        _contradict(count, reason, inside, policies, beats)
        for tick in inside if reason not in NOT_ASKED else ():
            if (tick in excluded) != (reason == "excluded"):
                count.contradicted += 1
                count.faults.append(f"the tick of {tick} ({reason}) is against its exclusions")
    _differ(count, len(expected or ()) - matched, 0, f"up to {version['until']}")


def _derive(version: Any) -> tuple[list[datetime], Any, set[datetime]]:
    spec, policies = json.loads(version["spec"]), json.loads(version["policies"])
    expected = expected_ticks(spec, version["since"], version["until"], version["data"])
    exclude = policies.get("exclude", {})
    data = version["data"] if exclude.get("timezone") == spec.get("timezone") else None
    zone = _zone(exclude.get("timezone", "UTC"), data)
    return expected, policies, {at for at in expected if exclude and _excluded(exclude, zone, at)}


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
        index = bisect_right(beats, tick, key=lambda beat: beat[1])
        since, until = beats[index] if index < len(beats) else (end, end)
        down = beats and beats[0][0] <= tick and since >= end  # older heartbeats may be pruned
        if down if why == "late" else since <= tick and end <= until:
            count.contradicted += 1
            count.faults.append(f"the tick of {tick} is missed ({why}) against the heartbeats")


def _excluded(exclude: Any, zone: ZoneInfo, tick: datetime) -> bool:
    rules = [re.sub(r"\s*([-/])\s*", r"\1", rule.upper()) for rule in exclude.get("rules", ())]
    start, end = (exclude.get(name, tick.isoformat()) for name in ("start", "end"))
    end += "T23:59:59.999999" * (len(end) == DATE)
    within = _instant(start, zone) <= tick <= _instant(end, zone)
    return not within or any(_covers(rule, tick, tick.astimezone(zone)) for rule in rules)


def _instant(text: str, zone: tzinfo | None) -> datetime:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def _covers(rule: str, tick: datetime, local: datetime) -> bool:
    if rule[:4].isdigit():  # 2026-12-25, or two dates or timestamps with a slash between
        first, _, last = rule.partition("/")
        if len(first) == DATE:
            return date.fromisoformat(first) <= local.date() <= date.fromisoformat(last or first)
        return _instant(first, local.tzinfo) <= tick < _instant(last, local.tzinfo)
    days, hours = re.findall(r"^([A-Z-]*) ?([0-9:-]*)$", rule)[0]
    first, _, last = (days or "MON-SUN").partition("-")
    low, high = ("MON TUE WED THU FRI SAT SUN".index(name) // 4 for name in (first, last or first))
    begin, stop = (int(at[:-3]) * 60 + int(at[-2:]) for at in (hours or "0:00-24:00").split("-"))
    stop, minute = stop + 1440 * (stop <= begin), local.hour * 60 + local.minute
    begun = [back for back in (0, 1) if (local.weekday() - back - low) % 7 <= (high - low) % 7]
    return any(begin <= minute + 1440 * back < stop for back in begun)


def main() -> int:
    """Count, print the result and return the exit code."""
    parser = argparse.ArgumentParser("scripts/recount", description=__doc__, epilog=EPILOG)
    url = os.environ.get("DATABASE_URL")  # noqa: TID251 - imports nothing of app
    parser.add_argument("--database-url", default=url, required=not url)
    parser.add_argument("--json", action="store_true", help="one JSON object for each schedule")
    asked = parser.parse_args()
    try:
        counts = asyncio.run(recount(asked.database_url))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        sys.stderr.write(f"cannot count: {error}\n")
        return 2
    for count in counts:
        line = ", ".join(f"{n} {k}" for k, n in [*vars(count).items()][1:] if isinstance(n, int))
        text = "\n  ".join([f"{count.key}: {line}", *count.faults])
        print(json.dumps(vars(count) | {"sound": count.sound}) if asked.json else text)
    return 0 if all(count.sound for count in counts) else 1


if __name__ == "__main__":
    sys.exit(main())
