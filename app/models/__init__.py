"""All database tables, imported here so that migrations see the full metadata.

Each is exported under its plain name too: `from app.models import Run, Schedule, Tick`.
"""

from typing import Any

from sqlalchemy import MetaData

from app.models.alert_channels import AlertChannelRow
from app.models.audit import AuditRow
from app.models.backfills import BackfillRow
from app.models.changes import ChangeClockRow, ChangeRow
from app.models.health import (
    HealthFlipRow,
    HealthStateRow,
    MetricPendingRow,
    MetricTotalRow,
    NotificationRow,
    TrendRow,
)
from app.models.idempotency import IdempotencyKeyRow
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
    OrgUsageRow,
    ScheduleEditRow,
)
from app.models.pages import PageValidatorRow, RawBodyRow, RawPageRow
from app.models.runs import (
    RejectedRow,
    RunEventRow,
    RunKeysRow,
    RunRow,
    RunSourceRow,
    WorkerBeatRow,
)
from app.models.schedules import (
    ScheduleRow,
    ScheduleVersionRow,
    TickGapRow,
    TickRow,
    ZoneDataRow,
)
from app.models.secrets import OrgSecretRow
from app.models.sources import OrgSourceRevisionRow, OrgSourceRow, SourceUsageRow
from app.models.webhooks import WebhookDeliveryRow, WebhookRow

__all__ = [
    "AlertChannelRow",
    "ApiToken",
    "ApiTokenRow",
    "Article",
    "ArticleEntity",
    "ArticleEntityRow",
    "ArticleRow",
    "Audit",
    "AuditRow",
    "Backfill",
    "BackfillRow",
    "Change",
    "ChangeClockRow",
    "ChangeRow",
    "CollectionPreset",
    "CollectionPresetRow",
    "HealthFlip",
    "HealthFlipRow",
    "HealthState",
    "HealthStateRow",
    "IdempotencyKey",
    "IdempotencyKeyRow",
    "Item",
    "ItemRow",
    "MetricPending",
    "MetricPendingRow",
    "MetricTotal",
    "MetricTotalRow",
    "NewsCursor",
    "NewsCursorRow",
    "Notification",
    "NotificationRow",
    "OddsBoard",
    "OddsBoardRow",
    "OddsEvent",
    "OddsEventChange",
    "OddsEventChangeRow",
    "OddsEventRow",
    "OddsPrice",
    "OddsPriceChange",
    "OddsPriceChangeRow",
    "OddsPriceRow",
    "OrgSecret",
    "OrgSecretRow",
    "OrgSource",
    "OrgSourceRevisionRow",
    "OrgSourceRow",
    "OrgUsage",
    "OrgUsageRow",
    "Organization",
    "OrganizationRow",
    "PageValidator",
    "PageValidatorRow",
    "RawBody",
    "RawBodyRow",
    "RawPage",
    "RawPageRow",
    "RejectedRecord",
    "RejectedRow",
    "Run",
    "RunEvent",
    "RunEventRow",
    "RunKeysRow",
    "RunRow",
    "RunSource",
    "RunSourceRow",
    "Schedule",
    "ScheduleEdit",
    "ScheduleEditRow",
    "ScheduleRow",
    "ScheduleVersion",
    "ScheduleVersionRow",
    "SourceCursor",
    "SourceCursorRow",
    "SourcePace",
    "SourcePaceRow",
    "SourceUsageRow",
    "Story",
    "StoryEntity",
    "StoryEntityRow",
    "StoryRow",
    "StorySentiment",
    "StorySentimentRow",
    "StoryUpdate",
    "StoryUpdateRow",
    "Tick",
    "TickGap",
    "TickGapRow",
    "TickRow",
    "TrendRow",
    "Webhook",
    "WebhookDelivery",
    "WebhookDeliveryRow",
    "WebhookRow",
    "WorkerBeat",
    "WorkerBeatRow",
    "ZoneDataRow",
    "tables",
]

ApiToken = ApiTokenRow
ArticleEntity = ArticleEntityRow
Article = ArticleRow
Audit = AuditRow
Backfill = BackfillRow
CollectionPreset = CollectionPresetRow
HealthFlip = HealthFlipRow
HealthState = HealthStateRow
Change = ChangeRow
IdempotencyKey = IdempotencyKeyRow
Item = ItemRow
MetricPending = MetricPendingRow
MetricTotal = MetricTotalRow
NewsCursor = NewsCursorRow
Notification = NotificationRow
OddsBoard = OddsBoardRow
OddsEventChange = OddsEventChangeRow
OddsEvent = OddsEventRow
OddsPriceChange = OddsPriceChangeRow
OddsPrice = OddsPriceRow
OrgSecret = OrgSecretRow
OrgSource = OrgSourceRow
Organization = OrganizationRow
OrgUsage = OrgUsageRow
PageValidator = PageValidatorRow
RawBody = RawBodyRow
RawPage = RawPageRow
RejectedRecord = RejectedRow
RunEvent = RunEventRow
Run = RunRow
RunSource = RunSourceRow
ScheduleEdit = ScheduleEditRow
Schedule = ScheduleRow
ScheduleVersion = ScheduleVersionRow
SourceCursor = SourceCursorRow
SourcePace = SourcePaceRow
StoryEntity = StoryEntityRow
Story = StoryRow
StorySentiment = StorySentimentRow
StoryUpdate = StoryUpdateRow
TickGap = TickGapRow
Tick = TickRow
Webhook = WebhookRow
WebhookDelivery = WebhookDeliveryRow
WorkerBeat = WorkerBeatRow

tables = MetaData()
"""The tables above, without those of own jobs, which SQLModel's metadata has too."""
for _model in dict.fromkeys(value for value in globals().values() if isinstance(value, type)):
    _table: Any = getattr(_model, "__table__", None)
    if _table is not None:
        _table.to_metadata(tables)
