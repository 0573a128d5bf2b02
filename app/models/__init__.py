"""Every table, so that migrations see them all."""

from sqlmodel import SQLModel

from app.models.odds import (
    OddsBoardRow,
    OddsEventChangeRow,
    OddsEventRow,
    OddsPriceChangeRow,
    OddsPriceRow,
)
from app.models.runs import RejectedRow, RunEventRow, RunRow, RunSourceRow, WorkerBeatRow
from app.models.schedules import ScheduleRow, ScheduleVersionRow, TickGapRow, TickRow

__all__ = [
    "OddsBoardRow",
    "OddsEventChangeRow",
    "OddsEventRow",
    "OddsPriceChangeRow",
    "OddsPriceRow",
    "RejectedRow",
    "RunEventRow",
    "RunRow",
    "RunSourceRow",
    "ScheduleRow",
    "ScheduleVersionRow",
    "TickGapRow",
    "TickRow",
    "WorkerBeatRow",
    "tables",
]

tables = SQLModel.metadata
