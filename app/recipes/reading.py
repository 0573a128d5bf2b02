"""From a page to its rows, as a recipe says. Pure; run where it can be stopped (`sandbox`)."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.errors import Expression, Failure, Schema
from app.recipes import fields
from app.recipes.feedpages import FeedPage
from app.recipes.htmlpages import HtmlPage
from app.recipes.jsonpages import JsonPage
from app.recipes.model import Extracted, Recipe
from app.recipes.words import Kind
from app.records import Rejected

MOST_ROWS = 20_000  # of a page
LARGEST_ROW = 256 * 1024  # bytes
LARGEST = 16 * 1024 * 1024  # bytes of all rows of a page
LONGEST_KEY = 500  # characters
SHOWN = 4_000  # bytes of a rejected row

NO_HEADERS: Mapping[str, str] = {}


class Row(msgspec.Struct, frozen=True):
    """A row that is as it should be."""

    key: str
    data: dict[str, Any]


class Refusal(msgspec.Struct, frozen=True):
    """A row that could not be read, and why."""

    reason: str
    data: bytes
    key: str | None = None


class Reading(msgspec.Struct, frozen=True):
    """What is in a page.

    `records`: how many it lists, read or refused, before they are exploded. `onward`: the cursor or
    the address of what follows. `total`: how many the site says there are. `interval`: seconds
    after which a feed is worth asking for again. `content`: a hash of what the page says.
    `malformed`: what is wrong with a feed that was read all the same.
    """

    rows: list[Row] = []
    refused: list[Refusal] = []
    records: int = 0
    onward: str | None = None
    total: int | None = None
    interval: float | None = None
    content: bytes = b""
    malformed: str | None = None


class Page(Protocol):
    """A page that is open: its records, and what is found in one of them."""

    base: str

    def records(self, first: bool) -> list[Any]: ...
    def exploded(self, record: Any) -> list[Any]: ...
    def found(self, row: Any, field: str) -> Any: ...
    def shown(self, row: Any) -> bytes: ...
    def told(self, expression: str) -> Any: ...
    def refused(self) -> Sequence[Rejected]: ...
    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None: ...


class Pages:
    """Reads the pages of one recipe; its expressions are compiled once."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._fields = _columns(recipe)
        self._key = recipe.kept.key

    def read(
        self,
        body: bytes,
        *,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        first: bool = True,
        now: datetime,
    ) -> Reading:
        """Read a page. Raises Failure: Schema if it is none, Expression if it costs too much."""
        try:
            reading = self._read(self._opened(body, url, headers), headers, first, now)
            return msgspec.structs.replace(reading, content=_content(reading, body))
        except Failure:
            raise
        except MemoryError:
            raise Expression("reading the page takes more memory than it may") from None
        except RecursionError:
            raise Schema("the page is nested too deeply") from None

    def _opened(self, body: bytes, url: str, headers: Mapping[str, str]) -> Page:
        if self._recipe.kind is Kind.FEED:
            return FeedPage(self._recipe, body, url, headers)
        if self._recipe.kind is Kind.HTML:
            return HtmlPage(self._recipe, body, url, headers)
        return JsonPage(self._recipe, body, url)

    def _read(self, page: Page, headers: Mapping[str, str], first: bool, now: datetime) -> Reading:
        records = page.records(first)
        rows: dict[str, Row] = {}
        refused = [Refusal(r.reason, r.data[:SHOWN], r.record_id) for r in page.refused()]
        size = 0
        for number, source in enumerate(_each(page, records, self._recipe)):
            if number >= MOST_ROWS:
                raise Expression(f"the page has more than {MOST_ROWS:,} rows")
            row = self._row(page, source)
            if isinstance(row, Row):
                row = _alone(row, rows)
            if isinstance(row, Refusal):
                refused.append(row)
                size += len(row.data)
            elif row is not None:
                rows[row.key] = row
                size += _size(row)
            if size > LARGEST:
                raise Expression(f"the page's rows have more than {LARGEST:,} bytes")
        return Reading(
            rows=list(rows.values()),
            refused=refused,
            records=len(records),
            onward=self._onward(page),
            total=self._total(page),
            interval=page.interval(headers, now) if self._recipe.schedule.auto else None,
            malformed=page.malformed if isinstance(page, FeedPage) else None,
        )

    def _row(self, page: Page, source: Any) -> Row | Refusal:
        data: dict[str, Any] = {}
        faults: list[str] = []
        for name, field in self._fields.items():
            try:
                data[name] = fields.converted(page.found(source, name), field, page.base)
                if data[name] is None and (field.required or name in self._key):
                    faults.append(f"{name}: is missing")
            except (ValueError, TypeError, ArithmeticError) as error:
                faults.append(f"{name}: {error}")
        if not faults and len(msgspec.json.encode(data)) > LARGEST_ROW:
            faults.append(f"the row has more than {LARGEST_ROW:,} bytes")
        if faults:
            known = all(data.get(name) is not None for name in self._key)
            key = self._named(data) if known else None
            reason = fields.clean("; ".join(faults))[:1_000]
            return Refusal(reason, page.shown(source)[:SHOWN], key)
        return Row(self._named(data), data)

    def _named(self, data: Mapping[str, Any]) -> str:
        parts = [_as_key(data[name]) for name in self._key]
        if len(parts) > 1:
            parts = [part.replace("\\", "\\\\").replace("|", "\\|") for part in parts]
        key = "|".join(parts)
        if len(key) > LONGEST_KEY:
            return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return key

    def _onward(self, page: Page) -> str | None:
        expression = getattr(self._recipe.paginate, "path", None)
        value = None if expression is None else page.told(expression)
        if value is None or value is False or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise Schema(
                f"paginate.path finds {value!r:.60}, which is no {self._recipe.paginate.type}"
            )
        return fields.clean(str(value)).strip()[:4_000] or None

    def _total(self, page: Page) -> int | None:
        expression = self._recipe.paginate.total
        value = None if expression is None else page.told(expression)
        if value is None:
            return None
        whole = Extracted(path="total", type=fields.FieldType.INTEGER)
        try:
            return max(0, fields.converted(value, whole, page.base) or 0)
        except ValueError as error:
            raise Schema(f"paginate.total: {error}") from None


def _content(reading: Reading, body: bytes) -> bytes:
    """Pages without a row say the same only if they do so to the letter."""
    said = msgspec.json.encode([row.data for row in reading.rows]) if reading.rows else body
    return hashlib.sha256(said).digest()


def _columns(recipe: Recipe) -> dict[str, Extracted]:
    if recipe.kind is Kind.FEED and not recipe.extract.fields:
        return FeedPage.columns()
    return dict(recipe.extract.fields)


def _each(page: Page, records: list[Any], recipe: Recipe) -> Iterator[Any]:
    for record in records:
        if recipe.extract.explode is None:
            yield record
        else:
            yield from page.exploded(record)


def _alone(row: Row, rows: Mapping[str, Row]) -> Row | Refusal | None:
    """The row, unless the page has one of that key already: the same again is nothing new."""
    before = rows.get(row.key)
    if before is None:
        return row
    if before.data == row.data:
        return None
    shown = msgspec.json.encode(row.data)[:SHOWN]
    return Refusal(f"the key {row.key[:100]!r} comes twice in the page", shown, row.key)


def _as_key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return msgspec.json.encode(value, order="sorted").decode()


def _size(row: Row) -> int:
    return sum(len(v) if isinstance(v, str) else 64 for v in row.data.values())
