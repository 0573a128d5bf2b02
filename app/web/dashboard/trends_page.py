"""The page of trends: what runs took and brought, by source or job, over a day, a week, a month."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.collection_keys import collection_name
from app.core.enums import TrendKind
from app.store.db import Connection
from app.store.reports import org_trends
from app.store.reports import trends as store
from app.store.reports.trends import COUNTS, TrendPoint, percentile
from app.store.schedules import heartbeats
from app.web.dashboard.data import reading
from app.web.dashboard.data.line_chart import ChartLine, ChartPoint, sloped_chart
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import respond

# name of the period: its length, and the seconds of a step
PERIODS = {
    "24h": (timedelta(hours=24), 3_600),
    "7d": (timedelta(days=7), 21_600),
    "30d": (timedelta(days=30), 86_400),
}
Key = TypeVar("Key")
PER_PAGE = 50  # jobs or sources in the table; the charts are of all

MEDIAN, HIGH = 0.5, 0.95
LOWEST_TOP = 0.1  # the least value at the top of a chart


@dataclass
class Trend:
    """The sum of some counts: of a source or job, or of a step of time.

    What is derived from them is derived once.
    """

    totals: list[int] = field(default_factory=lambda: [0] * len(COUNTS))
    took: dict[str, int] = field(default_factory=dict[str, int])
    waited: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, points: "Sequence[TrendPoint | Trend]") -> "Trend":
        """The sum of these counts."""
        if not points:
            return cls()
        took, waited = dict[str, int](), dict[str, int]()
        for point in points:
            for bucket, number in point.took.items():
                took[bucket] = took.get(bucket, 0) + number
            for bucket, number in point.waited.items():
                waited[bucket] = waited.get(bucket, 0) + number
        columns = zip(*(point.totals for point in points), strict=True)
        return cls(list(map(sum, columns)), took, waited)

    @cached_property
    def counts(self) -> dict[str, int]:
        """The totals by their names."""
        return dict(zip(COUNTS, self.totals, strict=True))

    @cached_property
    def took_seconds(self) -> tuple[float | None, float | None]:
        """The median and the 95th percentile of how long runs took."""
        return _percentiles(self.took)

    @cached_property
    def waited_seconds(self) -> tuple[float | None, float | None]:
        """The same of how long they waited for their start."""
        return _percentiles(self.waited)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with the names of its lines."""

    title: str
    drawing: Markup
    lines: Sequence[str]


async def trends(request: Request, user: SessionUser, connection: Connection) -> Response:
    """Durations, waits, records, prices, errors and bytes. Raises HTTPException 400."""
    fields, after = _fields(request), reading.cursor_param(request, tuple[str])
    length, step = PERIODS[fields["period"]]
    now = await heartbeats.database_now(connection)
    times = steps(now, length, step)
    points = await _points(connection, user, step, fields["by"], times[0])
    names = sorted({point.name for point in points})
    listed = names if after is None else [name for name in names if name > after[0]]
    listed, more = listed[:PER_PAGE], len(listed) > PER_PAGE
    here = frozenset(listed)
    named = _sums((point.name, point) for point in points if point.name in here)
    shown = [point for point in points if fields["name"] in ("", point.name)]
    timed = _sums((point.at, point) for point in shown)
    course = [(at, timed.get(at, Trend())) for at in times]
    total = Trend.of(list(timed.values()))
    called = _called(TrendKind(fields["by"]), user)
    return respond(
        "trends.html",
        user,
        "trends",
        fields=fields,
        called=called,
        periods=list(PERIODS),
        step=step,
        since=times[0],
        now=now,
        names=names,
        named=[(name, named[name]) for name in listed],
        older=reading.next_link("/trends", fields, (listed[-1],) if more else None, "#by"),
        first_page=reading.first_link("/trends", fields, "#by") if after else "",
        course=list(reversed(course)),
        total=total,
        charts=_charts(course, now, fields["name"] or f"all {called}s"),
        error=store.MAX_ERROR,
        max_runs=org_trends.MAX_RUNS,
        links={name: _link(fields | {"name": name}) for name in listed},
        all=_link(fields | {"name": ""}),
        by_link={
            _called(kind, user): _link(fields | {"by": kind, "name": ""}) for kind in TrendKind
        },
        period_link={name: _link(fields | {"period": name}) for name in PERIODS},
    )


async def _points(
    connection: Connection, user: SessionUser, step: int, by: str, since: datetime
) -> list[TrendPoint]:
    """The points of all jobs or sources, or those of this organisation's collections."""
    kind = TrendKind(by)
    if user.org_id is None:
        return await store.read(connection, step, kind, since)
    points = await org_trends.read(connection, user.org_id, step, kind, since)
    if kind is TrendKind.SOURCE:
        return points
    return [msgspec.structs.replace(each, name=collection_name(each.name)) for each in points]


def steps(now: datetime, length: timedelta, step: int) -> list[datetime]:
    """The begins of the steps (seconds) that cover the period until now, in order."""
    last = int(now.timestamp()) // step * step
    count = int(length.total_seconds()) // step
    return [datetime.fromtimestamp(last - n * step, UTC) for n in range(count, -1, -1)]


def _called(kind: TrendKind, user: SessionUser) -> str:
    return "collection" if kind is TrendKind.JOB and user.org_id is not None else kind.value


def _fields(request: Request) -> dict[str, str]:
    by = request.query_params.get("by", TrendKind.SOURCE)
    period = request.query_params.get("period", "24h")
    if by not in list(TrendKind) or period not in PERIODS:
        raise HTTPException(400, "There are trends by source or job, over 24h, 7d or 30d.")
    return {"by": by, "period": period, "name": reading.text_param(request, "name")}


def _link(fields: Mapping[str, str]) -> str:
    return f"/trends?{urlencode({name: value for name, value in fields.items() if value})}"


def _sums(points: Iterable[tuple[Key, TrendPoint]]) -> dict[Key, Trend]:
    grouped: dict[Key, list[TrendPoint | Trend]] = {}
    for key, point in points:
        grouped.setdefault(key, []).append(point)
    return {key: Trend.of(group) for key, group in grouped.items()}


def _percentiles(counts: Mapping[str, int]) -> tuple[float | None, float | None]:
    return percentile(counts.items(), MEDIAN), percentile(counts.items(), HIGH)


def _charts(course: Sequence[tuple[datetime, Trend]], now: datetime, of: str) -> list[Chart]:
    """A chart for each kind of values; those with no value at all are left out."""
    lines: dict[str, dict[str, list[float | None]]] = {
        "Duration, seconds": {
            "p50": [trend.took_seconds[0] for _, trend in course],
            "p95": [trend.took_seconds[1] for _, trend in course],
        },
        "Wait to start, seconds": {
            "p50": [trend.waited_seconds[0] for _, trend in course],
            "p95": [trend.waited_seconds[1] for _, trend in course],
        },
        "Records": _counted(course, {"read": "records", "new or changed": "changed"}),
        "Prices": _counted(course, {"read": "prices"}),
        "Errors": _counted(course, {"failed runs": "failed", "failed requests": "errors"}),
        "Bytes": _counted(course, {"received": "bytes"}),
    }
    charts: list[Chart] = []
    for title, values in lines.items():
        drawn = [
            ChartLine(
                name, [ChartPoint(at, value) for (at, _), value in zip(course, each, strict=True)]
            )
            for name, each in values.items()
        ]
        highest = max((value or 0 for each in values.values() for value in each), default=0)
        bounds = (0.0, max(highest, LOWEST_TOP))
        drawing = sloped_chart(drawn, course[0][0], now, f"{title} of {of}", bounds)
        if drawing and (highest or title == "Errors"):
            charts.append(Chart(title, drawing, list(values)))
    return charts


def _counted(
    course: Sequence[tuple[datetime, Trend]], names: Mapping[str, str]
) -> dict[str, list[float | None]]:
    return {
        line: [float(trend.counts[name]) for _, trend in course] for line, name in names.items()
    }
