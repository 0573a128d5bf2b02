"""Conversion of extracted values to column types. All results are JSON values. Pure."""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

from app.sources.recipes.enums import FieldType
from app.sources.recipes.model import RecipeColumn

MAX_TEXT_LENGTH = 200_000  # characters of one value
MAX_DEPTH = 50
MAX_DIGITS = 100
_FIRST_MILLISECONDS = 100_000_000_000  # as seconds, this is the year 5138
_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
_FALSE = frozenset({"false", "no", "off", "0", "n", "f"})
_GROUP_SIZES = (2, 3)  # allowed digits in a group; the last group always has three
_GROUP_SEPARATORS = {".": ",", ",": "."}
_BLANKS = re.compile(r"[\s'\u2019]")


def convert(value: Any, field: RecipeColumn, base: str) -> Any:
    """Return `value` converted to the type of `field`; None for null and for an empty string.

    `base` is the URL that relative URLs are resolved against. Raises ValueError with the reason.
    """
    if field.match is not None and value is not None:
        value = _apply_match(_text(value), field.match)
    if isinstance(value, str):
        value = clean_text(value).strip()
    if value is None or value == "":
        return None
    return _CONVERTERS[field.type](value, field, base)


def clean_text(text: str) -> str:
    """Return `text` without NUL and lone surrogates, neither of which Postgres accepts."""
    if text.isascii() and "\0" not in text:
        return text
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text if c != "\0")


def clean_json(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with its strings cleaned. Raises ValueError if it is not a JSON value."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, list):
        return [clean_json(member, depth + 1) for member in cast("list[Any]", value)]
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return {clean_text(str(key)): clean_json(member, depth + 1) for key, member in members}
    raise ValueError(f"is a {type(value).__name__}")


def _apply_match(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    if found is None:
        return None
    return found[1] if found.re.groups else found[0]


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{_shown(value)} is not a string; use the type list or json")


def _string(value: Any, field: RecipeColumn, base: str) -> str:
    del field, base
    text = _text(value)
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"is longer than {MAX_TEXT_LENGTH:,} characters")
    return text


def _parse_decimal(value: Any, field: RecipeColumn, what: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{_shown(value)} is not a valid {what}")  # noqa: TRY004 - page content
    written = str(value)
    if isinstance(value, str):
        written = _strip_grouping(_BLANKS.sub("", value), field.decimal)
        written = written.replace(field.decimal, ".").replace("\u2212", "-")
    try:
        number = Decimal(written) if len(written) <= MAX_DIGITS else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > MAX_DIGITS:
        raise ValueError(f"{_shown(value)} is not a valid {what}")
    return number


def _strip_grouping(text: str, point: str) -> str:
    """Return `text` without thousands separators. Raises ValueError if one is misplaced."""
    separator = _GROUP_SEPARATORS[point]
    whole, rest, fraction = text.partition(point)
    first, *groups = whole.split(separator)
    grouped = all(len(g) in _GROUP_SIZES for g in groups) and (
        not groups or len(groups[-1]) == max(_GROUP_SIZES)
    )
    if not grouped or separator in fraction:
        raise ValueError(f'{_shown(text)} is not a valid number with decimal = "{point}"')
    return first + "".join(groups) + rest + fraction


def _integer(value: Any, field: RecipeColumn, base: str) -> int:
    del base
    number = _parse_decimal(value, field, "integer")
    if number != number.to_integral_value():
        raise ValueError(f"{_shown(value)} is not a valid integer")
    return int(number)


def _number(value: Any, field: RecipeColumn, base: str) -> float | int:
    del base
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value)
    return _finite(float(_parse_decimal(value, field, "number")))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def _decimal(value: Any, field: RecipeColumn, base: str) -> str:
    del base
    return format(_parse_decimal(value, field, "decimal"), "f")


def _boolean(value: Any, field: RecipeColumn, base: str) -> bool:
    del field, base
    normalized = _text(value).strip().lower()
    if normalized in _TRUE:
        return True
    if normalized in _FALSE:
        return False
    raise ValueError(f"{_shown(value)} is not a valid boolean")


def _datetime(value: Any, field: RecipeColumn, base: str) -> str:
    del base
    return utc_datetime(value, field).isoformat().replace("+00:00", "Z")


def _date(value: Any, field: RecipeColumn, base: str) -> str:
    del base
    if isinstance(value, str) and field.format is None:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            pass
    # The date is taken in its own time zone: converting to UTC could change the day.
    return _local_datetime(value, field).date().isoformat()


def utc_datetime(value: Any, field: RecipeColumn) -> datetime:
    """Return `value` as a UTC datetime. Raises ValueError."""
    try:
        return _local_datetime(value, field).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{_shown(value)} is not a valid datetime") from None


def _local_datetime(value: Any, field: RecipeColumn) -> datetime:
    zone: tzinfo = ZoneInfo(field.timezone) if field.timezone else UTC
    try:
        found = _parse_datetime(value, field.format)
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        expected = f"{field.type} as {field.format}" if field.format else str(field.type)
        raise ValueError(f"{_shown(value)} is not a valid {expected}") from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _parse_datetime(value: Any, layout: str | None) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    if layout in ("unix", "unix_ms"):
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1000 if layout == "unix_ms" else seconds, UTC)
    if layout is not None:
        return datetime.strptime(str(value), layout)  # noqa: DTZ007 - the caller sets the time zone
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000 if value >= _FIRST_MILLISECONDS else value, UTC)
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return parsedate_to_datetime(value)


def _url(value: Any, field: RecipeColumn, base: str) -> str:
    del field
    return absolute_url(_text(value), base)


def absolute_url(written: str, base: str) -> str:
    """Return an absolute http or https URL, resolved against `base`. Raises ValueError."""
    try:
        whole = urljoin(base, "".join(written.split()))
        parts = urlsplit(whole)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable, whole = False, ""
    if not usable or not whole.isprintable():
        raise ValueError(f"{_shown(written)} is not a valid URL")
    return whole


def _list(value: Any, field: RecipeColumn, base: str) -> list[Any]:
    del field, base
    members = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [clean_json(member) for member in members]


def _json(value: Any, field: RecipeColumn, base: str) -> Any:
    del field, base
    return clean_json(value)


_CONVERTERS: dict[FieldType, Callable[[Any, RecipeColumn, str], Any]] = {
    FieldType.STRING: _string,
    FieldType.INTEGER: _integer,
    FieldType.NUMBER: _number,
    FieldType.DECIMAL: _decimal,
    FieldType.BOOLEAN: _boolean,
    FieldType.DATETIME: _datetime,
    FieldType.DATE: _date,
    FieldType.URL: _url,
    FieldType.LIST: _list,
    FieldType.JSON: _json,
}
