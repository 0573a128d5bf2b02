"""Dates of feeds as UTC, with the fault of those that are not valid or not complete."""

from collections.abc import Mapping
from datetime import UTC, datetime

from app.sources.dates import read_date
from app.sources.feeds.feed import Entry


def parse_date(text: str, field: str) -> tuple[datetime | None, str | None]:
    """Return the UTC datetime in `text`, and the fault if there is one; `field` names it there.

    The datetime is None if `text` is not a valid date. A date without a time zone is read as UTC,
    with a fault that says so.
    """
    shown = repr(text.strip()[:60])
    try:
        found = read_date(text)
        at = found.at if found.at.tzinfo else found.at.replace(tzinfo=UTC)
        instant = at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        return None, f"{field}: {shown} is not a valid date: {error}"
    if not found.has_time:
        return instant, f"{field}: {shown} has no time of day; read as midnight UTC"
    return instant, None if found.at.tzinfo else f"{field}: {shown} has no time zone; read as UTC"


def set_dates(entry: Entry, written: Mapping[str, str | None]) -> None:
    """Set these fields of an entry to the datetimes in the texts, and note what is wrong."""
    for field, text in written.items():
        if text is not None:
            entry[field], fault = parse_date(text, field)
            entry["faults"] += [fault] if fault else []
