"""Reading of pages into rows, as a recipe describes. Pure; runs in the `sandbox` process."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from app.core.errors import Expression, Failure, Schema
from app.core.printable import clean_text
from app.sources.recipes import fields, templates
from app.sources.recipes.enums import RecipeKind
from app.sources.recipes.jsonpages import JsonPage
from app.sources.recipes.model import Recipe, RecipeColumn
from app.sources.recipes.paging_blocks import ByCursor
from app.sources.recipes.parsed_page import ListPlace, ParsedPage

MAX_ROWS = 20_000  # in a page
MAX_ROW_BYTES = 256 * 1024  # bytes
MAX_ROWS_BYTES = 16 * 1024 * 1024  # bytes of all rows in a page, as JSON
MAX_KEY_LENGTH = 500  # characters
MAX_ONWARD_LENGTH = 8_000  # characters of a cursor or of the URL of the next page
MAX_REJECTED_BYTES = 4_000  # bytes of a rejected row that are stored

NO_HEADERS: Mapping[str, str] = {}
NO_VALUES: Mapping[str, str] = {}
_OBJECT_PATH = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)\.[A-Za-z_][A-Za-z0-9_]*")

_RowData = tuple[dict[str, Any], list[str]]  # values by column, and faults


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
    `place`: where the list is.
    `next_page`: the cursor or URL of the next page. `cursor_place`: what holds the cursor exists.
    `more`: whether the site says that there is more. `ended`: the recipe's `end_when` holds.
    `total`: number of records that the site reports.
    `interval`: seconds after which a feed is worth requesting again.
    `content_hash`: a hash of the content. `malformed`: what is wrong with a feed that could be
    read. `cut_off`: the document ends before its list does.
    """

    rows: list[RecipeRow] = []
    rejected: list[RowRejection] = []
    record_count: int = 0
    place: ListPlace = ListPlace()
    next_page: str | None = None
    cursor_place: bool = True
    more: bool | None = None
    ended: bool = False
    total: int | None = None
    interval: float | None = None
    content_hash: bytes = b""
    malformed: str | None = None
    cut_off: bool = False


class RecipeReader:
    """Reads the pages of one recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._fields = _columns(recipe)
        self._columns = recipe.columns
        self._key = recipe.storage.key

    def read(
        self,
        body: bytes,
        *,
        url: str,
        headers: Mapping[str, str] = NO_HEADERS,
        first: bool = True,
        now: datetime,
        values: Mapping[str, str] = NO_VALUES,
    ) -> PageReading:
        """Read a page.

        `url`: the URL that was requested. `headers`: with lower-case names. `first`: whether it is
        the first page of its partition. `now`: UTC. `values`: the placeholders of the partition.
        Raises Schema if it cannot be read, and Expression if it exceeds a limit.
        """
        try:
            page = self._parsed(body, url, headers)
            reading = self._read(page, first, values)
            if self._recipe.schedule.auto:
                interval = page.interval(headers, now)
                reading = msgspec.structs.replace(reading, interval=interval)
            return msgspec.structs.replace(reading, content_hash=_content(reading, body))
        except Failure:
            raise
        except MemoryError:
            raise Expression("reading the page exceeds the memory limit") from None
        except RecursionError:
            raise Schema("the page is nested too deeply") from None

    def _parsed(self, body: bytes, url: str, headers: Mapping[str, str]) -> ParsedPage:
        # Imported when used: lxml, parsel and feedparser take 10 MB.
        # The sandbox process imports them before its limits apply.
        if self._recipe.kind is RecipeKind.FEED:
            from app.sources.recipes.feedpages import FeedPage  # noqa: PLC0415

            return FeedPage(self._recipe, body, url, headers)
        if self._recipe.kind is RecipeKind.HTML:
            from app.sources.recipes.htmlpages import HtmlPage  # noqa: PLC0415

            return HtmlPage(self._recipe, body, url, headers)
        return JsonPage(self._recipe, body, url, headers)

    def _read(self, page: ParsedPage, first: bool, values: Mapping[str, str]) -> PageReading:
        paginate = self._recipe.paginate
        ended = paginate.end_when is not None and page.holds(paginate.end_when)
        records = page.records()
        place = page.list_place()
        if place.absent and first and not ended and self._recipe.kind is not RecipeKind.HTML:
            raise Schema(place.absent)
        shared = self._shared_data(page, values)
        rows: dict[str, RecipeRow] = {}
        refused = [
            RowRejection(r.reason, r.data[:MAX_REJECTED_BYTES], r.record_id)
            for r in page.rejected()
        ]
        size = 0
        for number, row_source in enumerate(_sources(page, records, self._recipe)):
            if number >= MAX_ROWS:
                raise Expression(f"the page has more than {MAX_ROWS:,} rows")
            row = self._row(page, row_source, shared)
            if isinstance(row, RecipeRow):
                row = _deduplicated(row, rows)
            if isinstance(row, RowRejection):
                refused.append(row)
                size += len(row.data)
            elif row is not None:
                rows[row.key] = row
                size += len(msgspec.json.encode(row.data)) + len(row.key)
            if size > MAX_ROWS_BYTES:
                raise Expression(f"the rows of the page have more than {MAX_ROWS_BYTES:,} bytes")
        return PageReading(
            rows=list(rows.values()),
            rejected=refused,
            record_count=len(records),
            place=place,
            next_page=self._onward(page),
            cursor_place=self._has_cursor_place(page),
            more=self._more(page),
            ended=ended,
            total=self._total(page),
            malformed=page.malformed,
            cut_off=page.cut_off,
        )

    def _shared_data(self, page: ParsedPage, values: Mapping[str, str]) -> _RowData:
        """Return the columns that are equal in all rows of the page, and their faults."""
        data: dict[str, Any] = {}
        faults: list[str] = []
        for name, column in self._columns.items():
            try:
                value = (
                    page.search(column.path)
                    if column.value is None
                    else templates.fill(column.value, values)
                )
                data[name] = fields.convert(value, column, page.base)
                if data[name] is None and (column.required or name in self._key):
                    faults.append(f"{name}: is missing")
            except (ValueError, TypeError, ArithmeticError, KeyError) as error:
                faults.append(f"{name}: {error}")
        return data, faults

    def _row(self, page: ParsedPage, source: Any, shared: _RowData) -> RecipeRow | RowRejection:
        data: dict[str, Any] = {}
        faults: list[str] = [*shared[1]]
        for name, field in self._fields.items():
            try:
                data[name] = fields.convert(page.value(source, name), field, page.base)
                if data[name] is None and (field.required or name in self._key):
                    faults.append(f"{name}: is missing")
            except (ValueError, TypeError, ArithmeticError) as error:
                faults.append(f"{name}: {error}")
        data |= shared[0]
        if not faults and len(msgspec.json.encode(data)) > MAX_ROW_BYTES:
            faults.append(f"the row has more than {MAX_ROW_BYTES:,} bytes")
        if faults:
            has_key = all(data.get(name) is not None for name in self._key)
            key = self._row_key(data) if has_key else None
            reason = clean_text("; ".join(faults))[:1_000]
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
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise Schema(
                f"paginate.path finds {value!r:.60}, which is not a {self._recipe.paginate.type}"
            )
        onward = clean_text(str(value)).strip()
        if len(onward) > MAX_ONWARD_LENGTH:
            kind = self._recipe.paginate.type
            raise Schema(f"paginate.path finds a {kind} of {len(onward):,} characters")
        return onward or None

    def _has_cursor_place(self, page: ParsedPage) -> bool:
        """Return whether the object that holds the cursor exists, with a cursor or without."""
        paginate = self._recipe.paginate
        if self._recipe.kind is not RecipeKind.JSON or not isinstance(paginate, ByCursor):
            return True
        place = _OBJECT_PATH.fullmatch(paginate.path)
        return place is None or page.search(place[1]) is not None

    def _more(self, page: ParsedPage) -> bool | None:
        expression = self._recipe.paginate.has_more
        if expression is None:
            return None
        if self._recipe.kind is RecipeKind.HTML:
            return page.holds(expression)
        value = page.search(expression)
        if value is None:
            return None
        spec = RecipeColumn(path="has_more", type=fields.FieldType.BOOLEAN)
        try:
            return fields.convert(value, spec, page.base)
        except ValueError as error:
            raise Schema(f"paginate.has_more: {error}") from None

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
        from app.sources.recipes.feedpages import FeedPage  # noqa: PLC0415 - see `_parsed`

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
