"""All database tables, imported here so that migrations see the full metadata."""

from sqlmodel import SQLModel

from app.models.backfills import BackfillRow
from app.models.health import (
    HealthFlipRow,
    HealthStateRow,
    MetricPendingRow,
    MetricTotalRow,
    NotificationRow,
)
from app.models.items import SourceCursorRow, SourcePaceRow
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
from app.models.secrets import OrgSecretRow
from app.models.sources import OrgSourceRow

__all__ = [
    "ApiTokenRow",
    "ArticleEntityRow",
    "ArticleRow",
    "BackfillRow",
    "CollectionPresetRow",
    "HealthFlipRow",
    "HealthStateRow",
    "ItemRow",
    "MetricPendingRow",
    "MetricTotalRow",
    "NewsCursorRow",
    "NotificationRow",
    "OddsBoardRow",
    "OddsEventChangeRow",
    "OddsEventRow",
    "OddsPriceChangeRow",
    "OddsPriceRow",
    "OrgSecretRow",
    "OrgSourceRow",
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
    "SourceCursorRow",
    "SourcePaceRow",
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
