"""Filters of the list pages, as their addresses hold them: instants, periods, cursors. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from starlette.exceptions import HTTPException

from app.core.enums import RunStatus, Trigger
from app.store.bounded import RowPage
from app.store.runs.listing import RunFilter
from app.web.dashboard import formatting

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_YEAR = 9000  # the first year that schedules are not evaluated for
MAX_TEXT = 200
UNSUCCESSFUL = "unsuccessful"  # every status of a run that ended without full success
_UNSUCCESSFUL = (
    RunStatus.FAILURE,
    RunStatus.PARTIAL_FAILURE,
    RunStatus.TIMED_OUT,
    RunStatus.LOST,
    RunStatus.CANCELLED,
)
PERIODS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
DEFAULT_PERIOD = "24h"
_NAMES = ("job", "source", "status", "trigger", "worker", "error", "period", "since", "until")


@dataclass(frozen=True, slots=True)
class RunQuery:
    """The filters of a list of runs. `fields`: their values as the form shows them.

    `period` is the key of PERIODS, or empty for all time.
    """

    filters: RunFilter
    fields: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def active(self) -> dict[str, str]:
        """The fields that are set, for the address of the page."""
        return {name: text for name, text in self.fields.items() if text or name == "period"}

    def address(self, path: str, **more: str) -> str:
        query = urlencode(self.active | more)
        return f"{path}?{query}" if query else path


def run_query(params: Mapping[str, str], org_id: UUID | None, now: datetime) -> RunQuery:
    """The filters of the runs page. Unknown values match any.

    Raises HTTPException 404 for an invalid instant, 400 for an invalid cursor.
    """
    fields = {name: clean_text(params.get(name, "")) for name in _NAMES}
    fields["period"] = _known(params.get("period", DEFAULT_PERIOD), list(PERIODS))
    fields["status"] = _known(fields["status"], [*RunStatus, UNSUCCESSFUL])
    fields["trigger"] = _known(fields["trigger"], list(Trigger))
    since, until = optional_instant(fields["since"]), optional_instant(fields["until"])
    if since is not None or until is not None:
        fields["period"] = ""  # two instants replace the period
    elif fields["period"]:
        since = now - PERIODS[fields["period"]]
    filters = RunFilter(
        job=fields["job"] or None,
        statuses=statuses_of(fields["status"]),
        trigger=fields["trigger"] or None,
        since=since,
        until=until,
        org_id=org_id,
        after=run_cursor(params.get("before", "")),
        worker=fields["worker"] or None,
        source=fields["source"] or None,
        error=fields["error"] or None,
    )
    return RunQuery(filters, fields)


def page_of_runs(query: RunQuery, found: RowPage, path: str) -> dict[str, Any]:
    """One page of runs with the addresses of the newest and the next one."""
    older = ""
    if found.after is not None:
        at, run_id = found.after
        older = query.address(path, before=f"{formatting.iso(at)}_{run_id}")
    return {
        "runs": found.rows,
        "older": older,
        "newest": query.address(path),
        "filters": query.fields,
        "paged": query.filters.after is not None,
        "examined": found.examined,
    }


def statuses_of(text: str) -> Sequence[str] | None:
    """The statuses that a status filter matches; None if it matches any."""
    if text == UNSUCCESSFUL:
        return _UNSUCCESSFUL
    return [text] if text else None


def run_cursor(text: str) -> tuple[datetime, UUID] | None:
    """The cursor of a page of runs. Raises HTTPException 400 or 404 if it is invalid."""
    at, _, run_id = text.partition("_")
    if not run_id:
        return None
    try:
        return instant(at), UUID(run_id)
    except ValueError:
        raise HTTPException(400, "Invalid page cursor.") from None


def optional_instant(text: str) -> datetime | None:
    """The instant, or None if the text is empty. Raises HTTPException 404 if it is not one."""
    return instant(text) if text else None


def instant(text: str) -> datetime:
    """The instant; UTC if it names no offset. Raises HTTPException 404 if it is not one."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise HTTPException(404, "Not a valid instant.") from None
    if not EPOCH.year <= at.year < MAX_YEAR:
        raise HTTPException(404, "This instant is out of range.")
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def clean_text(value: str) -> str:
    """The text without blanks around it, cut at MAX_TEXT; empty if it is not of one line."""
    return value.strip()[:MAX_TEXT] if value.isprintable() else ""


def _known(value: str, values: Sequence[str]) -> str:
    return value if value in values else ""
