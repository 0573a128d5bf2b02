"""Handler of /collection/schedule/preview: a cron expression in words, and its next ticks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from app.core import zone_data
from app.core.enums import Scope
from app.scheduling.schedule import Schedule
from app.store.schedules import zones
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.schemas.schedule import PreviewQuery, SchedulePreview, TickPreview

TICKS_SHOWN = 10
HORIZON = timedelta(days=366 * 12)
_INSTANT = timedelta(microseconds=1)


async def preview_schedule(request: ApiRequest) -> ApiResponse:
    """Describe a cron expression, its next ten ticks, and those that a clock change moves."""
    query: PreviewQuery = request.query
    schedule = Schedule.cron(query.cron, query.timezone)
    # The data that a schedule would be derived with now: a worker may have newer data.
    stamp = await zones.newest_known(request.context.pool, query.timezone)
    schedule = schedule.with_stamp(stamp)
    expression = str(schedule.to_spec()["cron"])
    zone = zone_data.zone(query.timezone, stamp)
    return ApiResponse(
        SchedulePreview(
            cron_expression=expression,
            timezone=query.timezone,
            words=schedule.describe(),
            instants=list(_ticks(schedule, expression, zone, request.now)),
        )
    )


def _ticks(
    schedule: Schedule, expression: str, zone: ZoneInfo, now: datetime
) -> Iterator[TickPreview]:
    # In UTC no clock change moves a tick: these are the wall-clock times that the expression names.
    unmoved = Schedule.cron(expression, "UTC")
    instants = list(islice(schedule.ticks(now, now + HORIZON), TICKS_SHOWN))
    for instant in instants or [schedule.next(now)]:  # a rare rule names one beyond the horizon
        local = instant.astimezone(zone)
        wall = local.replace(tzinfo=UTC, fold=0)
        moved = unmoved.next(wall - _INSTANT) != wall
        note = _skipped_note(unmoved, wall) if moved else _repeated_note(local, zone)
        yield TickPreview(utc=instant, local=local, moved=moved, note=note)


def _skipped_note(unmoved: Schedule, wall: datetime) -> str:
    named = unmoved.previous(wall)
    skipped = "the time it names" if named is None else f"{named:%H:%M}"
    return f"the clocks skip {skipped} that day: it runs right after"


def _repeated_note(local: datetime, zone: ZoneInfo) -> str | None:
    naive = local.replace(tzinfo=None)
    first, second = (naive.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    # In a gap the two offsets differ as well, with the smaller one first.
    if first is None or second is None or first <= second:
        return None
    which = "second" if local.fold else "first"
    return f"the clocks show {naive:%H:%M} twice that day: this is the {which} time"


SCHEDULE = "/collection/schedule"


ENDPOINTS: tuple[Endpoint, ...] = (
    get(
        f"{SCHEDULE}/preview",
        Scope.READ,
        preview_schedule,
        SchedulePreview,
        query=PreviewQuery,
        errors=(400,),
    ),
)
