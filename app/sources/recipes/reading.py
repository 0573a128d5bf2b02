"""Reading of pages into rows, as a recipe describes. Pure; runs in the `sandbox` process."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.core.errors import Expression, Failure, Schema
from app.core.records import Rejected
from app.sources.recipes import fields
from app.sources.recipes.enums import RecipeKind
from app.sources.recipes.feedpages import FeedPage
from app.sources.recipes.htmlpages import HtmlPage
from app.sources.recipes.jsonpages import JsonPage
from app.sources.recipes.model import Recipe, RecipeColumn

MAX_ROWS = 20_000  # in a page
MAX_ROW_BYTES = 256 * 1024  # bytes
MAX_ROWS_BYTES = 16 * 1024 * 1024  # bytes of all rows in a page, roughly
MAX_KEY_LENGTH = 500  # characters
MAX_REJECTED_BYTES = 4_000  # bytes of a rejected row that are stored

NO_HEADERS: Mapping[str, str] = {}


class RecipeRow(msgspec.Struct, frozen=True):
    """A valid row. `key` identifies it within its source."""

    key: str
    data: dict[str, Any]


class RowRejection(msgspec.Struct, frozen=True):
    """A rejected row. `reason`: its faults. `data`: the row, truncated. `key`: if it was found."""

    reason: str
    data: bytes
    key: str | None = None


class PageReading(msgspec.Struct, frozen=True):
    """The content of a page.

    `record_count`: number of records listed, valid or not, before they are exploded.
    `next_page`: the cursor or URL of the next page. `total`: number of records that the site
    reports.
    `interval`: seconds after which a feed is worth requesting again.
    `content_hash`: a hash of the content. `malformed`: what is wrong with a feed that could be
    read.
    """

    rows: list[RecipeRow] = []
    rejected: list[RowRejection] = []
    record_count: int = 0
    next_page: str | None = None
    total: int | None = None
    interval: float | None = None
    content_hash: bytes = b""
    malformed: str | None = None


class ParsedPage(Protocol):
    """A parsed page of one format: its records, and the values in them."""

    base: str

    def records(self, first: bool) -> list[Any]: ...
    def explode(self, record: Any) -> list[Any]: ...
    def value(self, row: Any, field: str) -> Any: ...
    def as_bytes(self, row: Any) -> bytes: ...
    def search(self, expression: str) -> Any: ...
    def rejected(self) -> Sequence[Rejected]: ...
    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None: ...


class RecipeReader:
    """Reads the pages of one recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._fields = _columns(recipe)
        self._key = recipe.storage.key

    def read(
        self,
        body: bytes,
        *,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        first: bool = True,
        now: datetime,
    ) -> PageReading:
        """Read a page.

        `url`: the URL that was requested. `headers`: with lower-case names. `first`: whether it is
        the first page of its partition. `now`: UTC.
        Raises Schema if it cannot be read, and Expression if it exceeds a limit.
        """
        try:
            reading = self._read(self._parsed(body, url, headers), headers, first, now)
            return msgspec.structs.replace(reading, content_hash=_content(reading, body))
        except Failure:
            raise
        except MemoryError:
            raise Expression("reading the page exceeds the memory limit") from None
        except RecursionError:
            raise Schema("the page is nested too deeply") from None

    def _parsed(self, body: bytes, url: str, headers: Mapping[str, str]) -> ParsedPage:
        if self._recipe.kind is RecipeKind.FEED:
            return FeedPage(self._recipe, body, url, headers)
        if self._recipe.kind is RecipeKind.HTML:
            return HtmlPage(self._recipe, body, url, headers)
        return JsonPage(self._recipe, body, url)

    def _read(
        self, page: ParsedPage, headers: Mapping[str, str], first: bool, now: datetime
    ) -> PageReading:
        records = page.records(first)
        rows: dict[str, RecipeRow] = {}
        refused = [
            RowRejection(r.reason, r.data[:MAX_REJECTED_BYTES], r.record_id)
            for r in page.rejected()
        ]
        size = 0
        for number, row_source in enumerate(_sources(page, records, self._recipe)):
            if number >= MAX_ROWS:
                raise Expression(f"the page has more than {MAX_ROWS:,} rows")
            row = self._row(page, row_source)
            if isinstance(row, RecipeRow):
                row = _deduplicated(row, rows)
            if isinstance(row, RowRejection):
                refused.append(row)
                size += len(row.data)
            elif row is not None:
                rows[row.key] = row
                size += _size_of(row)
            if size > MAX_ROWS_BYTES:
                raise Expression(f"the rows of the page have more than {MAX_ROWS_BYTES:,} bytes")
        return PageReading(
            rows=list(rows.values()),
            rejected=refused,
            record_count=len(records),
            next_page=self._onward(page),
            total=self._total(page),
            interval=page.interval(headers, now) if self._recipe.schedule.auto else None,
            malformed=page.malformed if isinstance(page, FeedPage) else None,
        )

    def _row(self, page: ParsedPage, source: Any) -> RecipeRow | RowRejection:
        data: dict[str, Any] = {}
        faults: list[str] = []
        for name, field in self._fields.items():
            try:
                data[name] = fields.convert(page.value(source, name), field, page.base)
                if data[name] is None and (field.required or name in self._key):
                    faults.append(f"{name}: is missing")
            except (ValueError, TypeError, ArithmeticError) as error:
                faults.append(f"{name}: {error}")
        if not faults and len(msgspec.json.encode(data)) > MAX_ROW_BYTES:
            faults.append(f"the row has more than {MAX_ROW_BYTES:,} bytes")
        if faults:
            has_key = all(data.get(name) is not None for name in self._key)
            key = self._row_key(data) if has_key else None
            reason = fields.clean_text("; ".join(faults))[:1_000]
            return RowRejection(reason, page.as_bytes(source)[:MAX_REJECTED_BYTES], key)
        return RecipeRow(self._row_key(data), data)

    def _row_key(self, data: Mapping[str, Any]) -> str:
        parts = [_as_key(data[name]) for name in self._key]
        if len(parts) > 1:
            parts = [part.replace("\\", "\\\\").replace("|", "\\|") for part in parts]
        key = "|".join(parts)
        if len(key) > MAX_KEY_LENGTH:
            return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return key

    def _onward(self, page: ParsedPage) -> str | None:
        expression = getattr(self._recipe.paginate, "path", None)
        value = None if expression is None else page.search(expression)
        if value is None or value is False or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise Schema(
                f"paginate.path finds {value!r:.60}, which is not a {self._recipe.paginate.type}"
            )
        return fields.clean_text(str(value)).strip()[:4_000] or None

    def _total(self, page: ParsedPage) -> int | None:
        expression = self._recipe.paginate.total
        value = None if expression is None else page.search(expression)
        if value is None:
            return None
        spec = RecipeColumn(path="total", type=fields.FieldType.INTEGER)
        try:
            return max(0, fields.convert(value, spec, page.base) or 0)
        except ValueError as error:
            raise Schema(f"paginate.total: {error}") from None


def _content(reading: PageReading, body: bytes) -> bytes:
    """Return the hash of the rows, or of the body if there are none."""
    content = msgspec.json.encode([row.data for row in reading.rows]) if reading.rows else body
    return hashlib.sha256(content).digest()


def _columns(recipe: Recipe) -> dict[str, RecipeColumn]:
    if recipe.kind is RecipeKind.FEED and not recipe.extract.fields:
        return FeedPage.columns()
    return dict(recipe.extract.fields)


def _sources(page: ParsedPage, records: list[Any], recipe: Recipe) -> Iterator[Any]:
    for record in records:
        if recipe.extract.explode is None:
            yield record
        else:
            yield from page.explode(record)


def _deduplicated(row: RecipeRow, rows: Mapping[str, RecipeRow]) -> RecipeRow | RowRejection | None:
    """Return the row; None for an exact duplicate, a Refusal for another row with the same key."""
    previous = rows.get(row.key)
    if previous is None:
        return row
    if previous.data == row.data:
        return None
    data = msgspec.json.encode(row.data)[:MAX_REJECTED_BYTES]
    return RowRejection(f"the key {row.key[:100]!r} occurs twice in the page", data, row.key)


def _as_key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return msgspec.json.encode(value, order="sorted").decode()


def _size_of(row: RecipeRow) -> int:
    return sum(len(v) if isinstance(v, str) else 64 for v in row.data.values())
