"""What the records of a run have in their fields, counted: how many are empty, and the newest."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any

from app.records import Item, OddsEvent, Record, Rejected
from app.words import Market

_MOST_FIELDS = 200


@dataclass(frozen=True, slots=True)
class Coverage:
    """`rows` that were looked at, and of each field how many of them have it empty.

    `newest`: the greatest instant in the field that was asked for.
    """

    rows: int = 0
    empty: Mapping[str, int] = field(default_factory=dict[str, int])
    newest: datetime | None = None

    def plus(self, other: "Coverage") -> "Coverage":
        """Both together. A field that only one of them knows was empty in the other."""
        if not self.rows or not other.rows:
            return other if not self.rows else self
        names = [*self.empty, *(name for name in other.empty if name not in self.empty)]
        empty = {
            name: self.empty.get(name, self.rows) + other.empty.get(name, other.rows)
            for name in names[:_MOST_FIELDS]
        }
        newest = max(filter(None, (self.newest, other.newest)), default=None)
        return Coverage(self.rows + other.rows, empty, newest)

    def filled(self, name: str) -> float | None:
        """The share of rows that have something in the field, from 0 to 1; None without rows."""
        if not self.rows:
            return None
        return 1 - self.empty.get(name, self.rows) / self.rows


def of(records: Iterable[Record], instant: str | None = None) -> Coverage:
    """Count what is empty: null, no text, no members. `instant`: the field whose newest counts."""
    rows, filled, newest = 0, Counter[str](), None
    names = dict[str, None]()
    for record in records:
        if isinstance(record, Rejected):
            continue
        rows += 1
        told = _told(record)
        names.update(dict.fromkeys(told))
        filled.update(name for name, value in told.items() if _is_filled(value))
        at = _instant(told.get(instant)) if instant else None
        newest = max(filter(None, (newest, at)), default=None)
    return Coverage(rows, {name: rows - filled[name] for name in [*names][:_MOST_FIELDS]}, newest)


def packed(coverage: Coverage) -> dict[str, Any]:
    """As JSON keeps it."""
    newest = coverage.newest and coverage.newest.isoformat()
    return {"rows": coverage.rows, "empty": dict(coverage.empty), "newest": newest}


def unpacked(told: Mapping[str, Any] | None) -> Coverage:
    """As it was packed; nothing counted where nothing was kept."""
    if not told:
        return Coverage()
    return Coverage(told["rows"], told["empty"], _instant(told["newest"]))


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _told(record: Record) -> Mapping[str, Any]:
    if isinstance(record, Item):
        return record.data
    told = {name: getattr(record, name) for name in _names(type(record))}
    if isinstance(record, OddsEvent):
        offered = {price.market for price in record.prices}
        told |= {f"{market.value} prices": market in offered or None for market in Market}
    return told


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
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
