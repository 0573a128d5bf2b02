"""Every table, so that migrations see them all."""

from sqlmodel import SQLModel

from app.models.backfills import BackfillRow
from app.models.news import (
    ArticleEntityRow,
    ArticleRow,
    NewsCursorRow,
    StoryEntityRow,
    StoryRow,
    StorySentimentRow,
    StoryUpdateRow,
)
from app.models.odds import (
    OddsBoardRow,
    OddsEventChangeRow,
    OddsEventRow,
    OddsPriceChangeRow,
    OddsPriceRow,
)
from app.models.orgs import (
    ApiTokenRow,
    CollectionPresetRow,
    ItemRow,
    OrganizationRow,
    ScheduleEditRow,
)
from app.models.pages import PageValidatorRow, RawBodyRow, RawPageRow
from app.models.runs import RejectedRow, RunEventRow, RunRow, RunSourceRow, WorkerBeatRow
from app.models.schedules import ScheduleRow, ScheduleVersionRow, TickGapRow, TickRow

__all__ = [
    "ApiTokenRow",
    "ArticleEntityRow",
    "ArticleRow",
    "BackfillRow",
    "CollectionPresetRow",
    "ItemRow",
    "NewsCursorRow",
    "OddsBoardRow",
    "OddsEventChangeRow",
    "OddsEventRow",
    "OddsPriceChangeRow",
    "OddsPriceRow",
    "OrganizationRow",
    "PageValidatorRow",
    "RawBodyRow",
    "RawPageRow",
    "RejectedRow",
    "RunEventRow",
    "RunRow",
    "RunSourceRow",
    "ScheduleEditRow",
    "ScheduleRow",
    "ScheduleVersionRow",
    "StoryEntityRow",
    "StoryRow",
    "StorySentimentRow",
    "StoryUpdateRow",
    "TickGapRow",
    "TickRow",
    "WorkerBeatRow",
    "tables",
]

tables = SQLModel.metadata
