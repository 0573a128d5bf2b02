"""The jobs table as HTML: a row that shows the same is not drawn again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from markupsafe import Markup

from app.core.enums import JobStatus
from app.web.dashboard.job_rows import JobTableRow
from app.web.dashboard.jobs_html import DrawnRows
from app.web.dashboard.jobs_table import JobsBoard
from app.web.dashboard.tick_slots import TickTotals

NOW = datetime(2026, 3, 1, 23, 58, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROW = JobTableRow(
    key="a",
    status=JobStatus.HEALTHY,
    reason=None,
    why="",
    since=None,
    rule="every 5 min",
    zone=None,
    last=NOW - 2 * MINUTE,
    running_since=None,
    upcoming=NOW + 3.5 * MINUTE,
    interval=300.0,
    wait=(0.1, 0.2),
    run=(3.0, 4.0),
    tally=TickTotals(),
    strip=Markup("<svg></svg>"),
    needs_attention=False,
)
FAILING = replace(ROW, status=JobStatus.UNHEALTHY, why="it failed", since=NOW - 9 * MINUTE)
RUNNING = replace(ROW, running_since=NOW - MINUTE)
OTHER = replace(ROW, key="b")


def board(*rows: JobTableRow, now: datetime = NOW, postgres: bool = True) -> JobsBoard:
    return JobsBoard(now, rows, 1, 0.0, 0.0, None, (), () if postgres else None, True)


def test_a_row_is_not_drawn_again_while_it_shows_the_same() -> None:
    drawn = DrawnRows()

    first = drawn.row(ROW, board(ROW))

    assert drawn.row(replace(ROW), board(ROW, now=NOW + timedelta(seconds=5))) is first


@pytest.mark.parametrize(
    "later",
    [
        board(FAILING),
        board(RUNNING),
        board(ROW, OTHER),
        board(),
        board(ROW, postgres=False),
        board(ROW, now=NOW + MINUTE),  # the ages
        board(ROW, now=NOW + 4 * MINUTE),  # due, and on another day
        board(replace(ROW, strip=Markup("<svg>1</svg>"))),
        board(replace(ROW, tally=TickTotals(ran=3, skipped=2))),
        board(replace(ROW, run=(5.0, 6.0))),
    ],
)
@pytest.mark.parametrize("before", [board(ROW), board(FAILING, OTHER), board(RUNNING)])
def test_what_was_drawn_before_never_shows_again(before: JobsBoard, later: JobsBoard) -> None:
    drawn = DrawnRows()
    drawn.table(before)

    assert drawn.table(later) == DrawnRows().table(later)


@pytest.mark.parametrize("change", [lambda: FAILING, lambda: OTHER])
def test_rows_of_jobs_that_are_gone_are_forgotten(change: Callable[[], JobTableRow]) -> None:
    drawn = DrawnRows()
    first = drawn.row(ROW, board(ROW))

    drawn.forget_others(board(change()))

    assert (drawn.row(ROW, board(ROW)) is first) == (change().key == ROW.key)
