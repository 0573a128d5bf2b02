"""Counts empty fields in the records of a run, and finds the newest instant of one field. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any

from app.core.enums import Market
from app.core.records import Item, OddsEvent, Record, Rejected

_MOST_FIELDS = 200
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The number of rows, and for each field the number of rows in which it is empty.

    `newest`: the latest instant in the field that was asked for, without those of the future.
    `future`: whether there are such.
    """

    rows: int = 0
    empty: Mapping[str, int] = field(default_factory=dict[str, int])
    newest: datetime | None = None
    future: bool = False

    def merge(self, other: "Coverage") -> "Coverage":
        """Return the sum of both. A field missing from one of them counts as empty there."""
        if not self.rows or not other.rows:
            return other if not self.rows else self
        names = [*self.empty, *(name for name in other.empty if name not in self.empty)]
        empty = {
            name: self.empty.get(name, self.rows) + other.empty.get(name, other.rows)
            for name in names[:_MOST_FIELDS]
        }
        newest = max(filter(None, (self.newest, other.newest)), default=None)
        return Coverage(self.rows + other.rows, empty, newest, self.future or other.future)

    def filled_share(self, name: str) -> float | None:
        """Return the share of rows in which the field is not empty; None without rows."""
        if not self.rows:
            return None
        return 1 - self.empty.get(name, self.rows) / self.rows


def measure(
    records: Iterable[Record], instant: str | None = None, until: datetime = _LATEST
) -> Coverage:
    """Count empty values: null, empty text, no members. `instant`: the field to find the newest of.

    `until`: what is after it is of the future. Rejected records are not counted.
    """
    rows, filled, newest, future = 0, Counter[str](), None, False
    names = dict[str, None]()
    for record in records:
        if isinstance(record, Rejected):
            continue
        rows += 1
        values = _values(record)
        names.update(dict.fromkeys(values))
        filled.update(name for name, value in values.items() if _is_filled(value))
        at = _instant(values.get(instant)) if instant else None
        future = future or (at is not None and at > until)
        if at is not None and at <= until:
            newest = at if newest is None else max(newest, at)
    empty = {name: rows - filled[name] for name in [*names][:_MOST_FIELDS]}
    return Coverage(rows, empty, newest, future)


def to_json(coverage: Coverage) -> dict[str, Any]:
    """Return the coverage as JSON values."""
    newest = coverage.newest and coverage.newest.isoformat()
    future = {"future": True} if coverage.future else {}
    return {"rows": coverage.rows, "empty": dict(coverage.empty), "newest": newest, **future}


def from_json(stored: Mapping[str, Any] | None) -> Coverage:
    """Read what `to_json` returned; None gives an empty coverage."""
    if not stored:
        return Coverage()
    newest = _instant(stored["newest"])
    return Coverage(stored["rows"], stored["empty"], newest, stored.get("future", False))


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    own: Mapping[str, Any] | None = getattr(kind, "model_fields", None)  # a table of a job's own
    return tuple(each.name for each in fields(kind)) if own is None else tuple(own)


def _values(record: Record) -> Mapping[str, Any]:
    if isinstance(record, Item):
        return record.data
    values = {name: getattr(record, name) for name in _names(type(record))}
    if isinstance(record, OddsEvent):
        offered = {price.market for price in record.prices}
        values |= {f"{market.value} prices": market in offered or None for market in Market}
    return values


def _is_filled(value: object) -> bool:
    return value not in (None, "", (), [], {}) if not isinstance(value, bool) else True


def _instant(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # before the year 1, or after 9999, in UTC
        return None
