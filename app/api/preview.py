"""What a rule would do, before it is chosen: in words, and its next instants on both clocks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from app.api import shapes
from app.api.desk import Answer, Asking
from app.scheduling.schedule import Schedule

SHOWN = 10
AHEAD = timedelta(days=366 * 12)
_INSTANT = timedelta(microseconds=1)


async def preview_schedule(asking: Asking) -> Answer:
    """Say what a cron expression means: the next ten instants, and those a clock change moves."""
    query: shapes.PreviewQuery = asking.query
    schedule = Schedule.cron(query.cron, query.timezone)
    expression = str(schedule.to_spec()["cron"])
    return Answer(
        shapes.Preview(
            cron_expression=expression,
            timezone=query.timezone,
            words=schedule.describe(),
            instants=list(_occasions(schedule, expression, query.timezone, asking.now)),
        )
    )


def _occasions(
    schedule: Schedule, expression: str, timezone: str, now: datetime
) -> Iterator[shapes.Occasion]:
    zone = ZoneInfo(timezone)
    # On a clock that never changes the expression names exactly the times it says.
    plain = Schedule.cron(expression, "UTC")
    for instant in islice(schedule.ticks(now, now + AHEAD), SHOWN):
        local = instant.astimezone(zone)
        wall = local.replace(tzinfo=UTC, fold=0)
        moved = plain.next(wall - _INSTANT) != wall
        note = _moved(plain, wall) if moved else _repeated(local, zone)
        yield shapes.Occasion(utc=instant, local=local, moved=moved, note=note)


def _moved(plain: Schedule, wall: datetime) -> str:
    named = plain.previous(wall)
    said = "the time it names" if named is None else f"{named:%H:%M}"
    return f"the clocks skip {said} that day: it runs right after"


def _repeated(local: datetime, zone: ZoneInfo) -> str | None:
    naive = local.replace(tzinfo=None)
    first, second = (naive.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    # In a gap the two differ as well, but no clock ever shows such a time.
    if first is None or second is None or first <= second:
        return None
    which = "second" if local.fold else "first"
    return f"the clocks show {naive:%H:%M} twice that day: this is the {which} time"
