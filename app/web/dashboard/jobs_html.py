"""The jobs table as HTML. It does not depend on the user."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from markupsafe import Markup

from app.web.dashboard import elements, formatting
from app.web.dashboard.job_rows import JobTableRow
from app.web.dashboard.jobs_table import JobsBoard
from app.web.dashboard.rendering import part


class RowTimes(NamedTuple):
    """What a row says about now: `day` is today's, the others are durations in words."""

    day: date
    since: str
    running: str
    last: str
    upcoming: str
    due: bool
    postgres: bool

    @classmethod
    def of(cls, row: JobTableRow, board: JobsBoard) -> "RowTimes":
        """The times of the row at the board's instant."""
        now = board.now
        return cls(
            now.date(),
            _elapsed(row.since, now),
            _elapsed(row.running_since, now),
            elements.ago(row.last, now),
            elements.ago(row.upcoming, now),
            row.upcoming is not None and row.upcoming < now,
            board.postgres,
        )


@dataclass(slots=True)
class DrawnRows:
    """The rows of the jobs table as HTML. One is drawn again only if something it shows changes."""

    _drawn: dict[str, tuple[JobTableRow, RowTimes, Markup]] = field(
        default_factory=dict[str, tuple[JobTableRow, RowTimes, Markup]]
    )

    def table(self, board: JobsBoard) -> Markup:
        html = {row.key: self.row(row, board) for row in board.rows}
        return Markup(part("table.html", board=board, html=html))  # noqa: S704 - escaped by it

    def row(self, row: JobTableRow, board: JobsBoard) -> Markup:
        times, drawn = RowTimes.of(row, board), self._drawn.get(row.key)
        if drawn is not None and drawn[:2] == (row, times):
            return drawn[2]
        text = part("table_row.html", row=row, times=times, now=board.now)
        html = Markup(text)  # noqa: S704 - escaped by the template
        self._drawn[row.key] = (row, times, html)
        return html

    def forget_others(self, board: JobsBoard) -> None:
        """Drop the rows of jobs that the board, which has all, does not have."""
        known = {row.key for row in board.rows}
        self._drawn = {key: drawn for key, drawn in self._drawn.items() if key in known}


def _elapsed(since: datetime | None, now: datetime) -> str:
    return "" if since is None else formatting.short_span((now - since).total_seconds())
