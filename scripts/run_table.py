"""Formats runs as a table for people and as figures for programs."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from app.core.enums import OPEN_STATUSES, RunStatus
from workers import registry

Row = Mapping[str, Any]

_NEW = ("inserted", "articles_stored", "stories_stored")  # names in `stats` for new rows
_COLOURS = {
    RunStatus.SUCCESS: "green",
    RunStatus.RUNNING: "cyan",
    RunStatus.QUEUED: "dim",
    RunStatus.PARTIAL_FAILURE: "yellow",
}


def figures(row: Row) -> dict[str, Any]:
    """Return a run's figures: job, status, events, prices, records, new, duration_s, stats."""
    stats: Mapping[str, int] = row["stats"] or {}
    seconds = row["duration_seconds"]
    counted = _records_stat(row["job"])
    return {
        "job": row["job"],
        "status": row["status"],
        "events": stats.get("events_scraped", 0),
        "prices": stats.get("prices", 0),
        "records": stats.get(counted, 0),
        "new": next((stats[name] for name in _NEW if name in stats), 0),
        "duration_s": None if seconds is None else round(seconds, 3),
        "stats": stats,
    }


def _records_stat(job: str) -> str:
    groups = {one.name: one.group for one in registry.SITES}
    group = groups.get(job)
    return "records" if group is None else group.records_stat


def table(rows: Iterable[Row], title: str, now: datetime | None = None) -> Table:
    """Return a table with a row for each run; with `now`, an open run shows its time so far."""
    result = Table(title=title, title_justify="left")
    for name in ("job", "due", "trigger", "status"):
        result.add_column(name, no_wrap=True)
    for name in ("records", "prices", "new", "changed", "duration"):
        result.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(*_cells(row, now))
    return result


def _cells(row: Row, now: datetime | None) -> list[str]:
    run = figures(row)
    stats: Mapping[str, int] = row["stats"] or {}
    status = RunStatus(row["status"])
    colour = _COLOURS.get(status, "red")
    return [
        run["job"],
        _instant(row["scheduled_for"] or row["queued_at"]),
        row["trigger"],
        f"[{colour}]{status}[/]",
        f"{run['records']:,}",
        f"{stats['prices']:,}" if "prices" in stats else "",
        f"{run['new']:,}",
        f"{stats.get('changed', 0):,}",
        _duration(row, now),
    ]


def _duration(row: Row, now: datetime | None) -> str:
    seconds: float | None = row["duration_seconds"]
    started: datetime | None = row["started_at"]
    if now is not None and started is not None and row["status"] in OPEN_STATUSES:
        seconds = (now - started).total_seconds()
    return "" if seconds is None else f"{max(seconds, 0):.1f} s"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S}"
