"""Reading of pages into rows, as a recipe describes. Pure; runs in the `sandbox` process."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.core.errors import Expression, Failure, Schema
from app.core.records import Rejected
from app.sources.recipes import fields
from app.sources.recipes.enums import Kind
from app.sources.recipes.feedpages import FeedPage
from app.sources.recipes.htmlpages import HtmlPage
from app.sources.recipes.jsonpages import JsonPage
from app.sources.recipes.model import Extracted, Recipe

MOST_ROWS = 20_000  # in a page
LARGEST_ROW = 256 * 1024  # bytes
LARGEST = 16 * 1024 * 1024  # bytes of all rows in a page, roughly
LONGEST_KEY = 500  # characters
SHOWN = 4_000  # bytes of a rejected row that are stored

NO_HEADERS: Mapping[str, str] = {}


class Row(msgspec.Struct, frozen=True):
    """A valid row. `key` identifies it within its source."""

    key: str
    data: dict[str, Any]


class Refusal(msgspec.Struct, frozen=True):
    """A rejected row. `reason`: its faults. `data`: the row, truncated. `key`: if it was found."""

    reason: str
    data: bytes
    key: str | None = None


class Reading(msgspec.Struct, frozen=True):
    """The content of a page.

    `records`: number of records listed, valid or not, before they are exploded.
    `onward`: the cursor or URL of the next page. `total`: number of records that the site reports.
    `interval`: seconds after which a feed is worth requesting again.
    `content`: a hash of the content. `malformed`: what is wrong with a feed that could be read.
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
    """A parsed page of one format: its records, and the values in them."""

    base: str

    def records(self, first: bool) -> list[Any]: ...
    def exploded(self, record: Any) -> list[Any]: ...
    def found(self, row: Any, field: str) -> Any: ...
    def shown(self, row: Any) -> bytes: ...
    def told(self, expression: str) -> Any: ...
    def refused(self) -> Sequence[Rejected]: ...
    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None: ...


class Pages:
    """Reads the pages of one recipe."""

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
        """Read a page.

        `url`: the URL that was requested. `headers`: with lower-case names. `first`: whether it is
        the first page of its partition. `now`: UTC.
        Raises Schema if it cannot be read, and Expression if it exceeds a limit.
        """
        try:
            reading = self._read(self._parsed(body, url, headers), headers, first, now)
            return msgspec.structs.replace(reading, content=_content(reading, body))
        except Failure:
            raise
        except MemoryError:
            raise Expression("reading the page exceeds the memory limit") from None
        except RecursionError:
            raise Schema("the page is nested too deeply") from None

    def _parsed(self, body: bytes, url: str, headers: Mapping[str, str]) -> Page:
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
        for number, row_source in enumerate(_sources(page, records, self._recipe)):
            if number >= MOST_ROWS:
                raise Expression(f"the page has more than {MOST_ROWS:,} rows")
            row = self._row(page, row_source)
            if isinstance(row, Row):
                row = _deduplicated(row, rows)
            if isinstance(row, Refusal):
                refused.append(row)
                size += len(row.data)
            elif row is not None:
                rows[row.key] = row
                size += _size_of(row)
            if size > LARGEST:
                raise Expression(f"the rows of the page have more than {LARGEST:,} bytes")
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
            has_key = all(data.get(name) is not None for name in self._key)
            key = self._row_key(data) if has_key else None
            reason = fields.clean("; ".join(faults))[:1_000]
            return Refusal(reason, page.shown(source)[:SHOWN], key)
        return Row(self._row_key(data), data)

    def _row_key(self, data: Mapping[str, Any]) -> str:
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
                f"paginate.path finds {value!r:.60}, which is not a {self._recipe.paginate.type}"
            )
        return fields.clean(str(value)).strip()[:4_000] or None

    def _total(self, page: Page) -> int | None:
        expression = self._recipe.paginate.total
        value = None if expression is None else page.told(expression)
        if value is None:
            return None
        spec = Extracted(path="total", type=fields.FieldType.INTEGER)
        try:
            return max(0, fields.converted(value, spec, page.base) or 0)
        except ValueError as error:
            raise Schema(f"paginate.total: {error}") from None


def _content(reading: Reading, body: bytes) -> bytes:
    """Return the hash of the rows, or of the body if there are none."""
    content = msgspec.json.encode([row.data for row in reading.rows]) if reading.rows else body
    return hashlib.sha256(content).digest()


def _columns(recipe: Recipe) -> dict[str, Extracted]:
    if recipe.kind is Kind.FEED and not recipe.extract.fields:
        return FeedPage.columns()
    return dict(recipe.extract.fields)


def _sources(page: Page, records: list[Any], recipe: Recipe) -> Iterator[Any]:
    for record in records:
        if recipe.extract.explode is None:
            yield record
        else:
            yield from page.exploded(record)


def _deduplicated(row: Row, rows: Mapping[str, Row]) -> Row | Refusal | None:
    """Return the row; None for an exact duplicate, a Refusal for another row with the same key."""
    previous = rows.get(row.key)
    if previous is None:
        return row
    if previous.data == row.data:
        return None
    data = msgspec.json.encode(row.data)[:SHOWN]
    return Refusal(f"the key {row.key[:100]!r} occurs twice in the page", data, row.key)


def _as_key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return msgspec.json.encode(value, order="sorted").decode()


def _size_of(row: Row) -> int:
    return sum(len(v) if isinstance(v, str) else 64 for v in row.data.values())
