"""The page of ticks that did not run: a calendar of days, then the ticks of a day."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import TickOutcome, TickReason
from app.store.bounded import RowPage
from app.store.db import Connection
from app.store.reports import tick_listing
from app.store.reports.tick_listing import TickFilter, UnservedTicks
from app.store.schedules import heartbeats
from app.web.dashboard import job_labels, page_filters
from app.web.dashboard.data import reading
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.tick_slots import REASON_TEXTS
from app.web.dashboard.views import respond

DAYS = 35  # days of the calendar: five weeks, the last of which ends today
PER_PAGE = 100
DAY = timedelta(days=1)
OUTCOMES = (TickOutcome.MISSED, TickOutcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One day (UTC) of the calendar: the numbers of ticks that did not run."""

    day: date
    missed: int
    skipped: int


async def ticks(request: Request, user: SessionUser, connection: Connection) -> Response:
    """What did not run, by day, reason and job. Raises HTTPException 400, 404 for no day."""
    fields, after = _fields(request), reading.cursor_param(request, tuple[datetime, int])
    now = await heartbeats.database_now(connection)
    every = await tick_listing.jobs(connection, org_id=user.org_id)
    jobs = every
    if fields["job"]:
        jobs = await tick_listing.jobs(connection, job=fields["job"], org_id=user.org_id)
    day = _day(fields["day"]) or now.date()
    last = max(day, min(day + timedelta(days=DAYS - 7), now.date()))
    counted = await tick_listing.not_run_by_day(
        connection, jobs, _filter(fields, last - (DAYS - 1) * DAY, last)
    )
    rows = await tick_listing.ticks(
        connection, jobs, _filter(fields, day, day, after), PER_PAGE + 1
    )
    found = RowPage.of(rows, PER_PAGE, "scheduled_for", "schedule_id")
    calendar = calendar_days(counted, last - (DAYS - 1) * DAY, last)
    return respond(
        "ticks.html",
        user,
        "ticks",
        day=day,
        today=now.date(),
        weeks=[calendar[n : n + 7] for n in range(0, DAYS, 7)],
        reasons_of_day=_reasons(counted, day),
        ticks=found.rows,
        jobs=list(every.values()),
        labels=await job_labels.labels(connection, user, [*every.values(), *jobs.values()]),
        reasons=list(TickReason),
        reason_texts=REASON_TEXTS,
        outcomes=OUTCOMES,
        filters=fields,
        links=_links(fields, day, found),
    )


def _fields(request: Request) -> dict[str, str]:
    params = request.query_params
    outcome, reason = params.get("outcome", ""), params.get("reason", "")
    return {
        "day": params.get("day", ""),
        "job": reading.text_param(request, "job"),
        "outcome": outcome if outcome in OUTCOMES else "",
        "reason": reason if reason in list(TickReason) else "",
    }


def _filter(
    fields: dict[str, str], first: date, last: date, after: tuple[datetime, int] | None = None
) -> TickFilter:
    """The filter for these days, from the row after `after` on."""
    return TickFilter(
        since=_midnight(first),
        until=_midnight(last + DAY),
        outcome=fields["outcome"] or None,
        reason=fields["reason"] or None,
        not_run=True,
        after=after,
    )


def _day(text: str) -> date | None:
    return page_filters.instant(text).date() if text else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def calendar_days(counted: Sequence[UnservedTicks], first: date, last: date) -> list[CalendarDay]:
    """A day for each from `first` to `last`.

    The ticks of a gap are spread evenly between its ends, as its own rule does for an interval.
    """
    totals: defaultdict[date, Counter[str]] = defaultdict(Counter)
    for row in counted:
        for day, count in _by_day(row, first, last):
            totals[day][row.outcome] += count
    days = [first + number * DAY for number in range((last - first).days + 1)]
    return [
        CalendarDay(day, totals[day][TickOutcome.MISSED], totals[day][TickOutcome.SKIPPED])
        for day in days
    ]


def _by_day(row: UnservedTicks, first: date, last: date) -> list[tuple[date, int]]:
    """How many of the ticks are on each day, from `first` to `last`."""
    days = (row.last.date() - row.first.date()).days
    if days == 0:
        return [(row.first.date(), row.count)]
    begin = max(row.first.date(), first)
    found: list[tuple[date, int]] = []
    for number in range((min(row.last.date(), last) - begin).days + 1):
        day = begin + number * DAY
        count = _before(row, _midnight(day + DAY)) - _before(row, _midnight(day))
        found.append((day, count))
    return found


def _before(row: UnservedTicks, at: datetime) -> int:
    """How many of the ticks are before the instant, if they are evenly spaced."""
    if at <= row.first:
        return 0
    if at > row.last:
        return row.count
    step = (row.last - row.first) / (row.count - 1)
    return min(-((row.first - at) // step), row.count)


def _reasons(counted: Sequence[UnservedTicks], day: date) -> list[tuple[str, str, int]]:
    """(outcome, reason, count) of the day, the most frequent first."""
    totals: Counter[tuple[str, str]] = Counter()
    for row in counted:
        totals[row.outcome, row.reason] += dict(_by_day(row, day, day)).get(day, 0)
    return [(*key, count) for key, count in totals.most_common() if count]


def _links(fields: dict[str, str], day: date, found: RowPage) -> dict[str, str]:
    active = {name: value for name, value in fields.items() if value and name != "day"}
    return {
        "filters": urlencode(active),
        "older": reading.next_link("/ticks", active | {"day": day.isoformat()}, found.after),
        "previous": f"/ticks?{urlencode(active | {'day': (day - DAY).isoformat()})}",
        "next": f"/ticks?{urlencode(active | {'day': (day + DAY).isoformat()})}",
    }
