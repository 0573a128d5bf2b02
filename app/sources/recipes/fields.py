"""Conversion of extracted values to column types. All results are JSON values. Pure."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

from app.core.printable import clean_text
from app.sources import dates
from app.sources.addresses import NO_PAGE_SCHEMES, resolve
from app.sources.recipes.enums import FieldType
from app.sources.recipes.model import RecipeColumn

MAX_TEXT_LENGTH = 200_000  # characters of one value
MAX_DEPTH = 50
MAX_DIGITS = 100
_EXACT_DIGITS = 17  # significant digits that identify a double
_MAX_ROUNDING = Decimal("0.000001")  # of a number with more digits than that
_INTEGERS = (-(2**63), 2**64 - 1)  # what MessagePack and most readers of JSON hold
_TRUE = frozenset({"true", "yes", "on", "1", "y", "t"})
_FALSE = frozenset({"false", "no", "off", "0", "n", "f"})


def _number_pattern(point: str, separator: str) -> re.Pattern[str]:
    # Groups of three digits, or of two before the last three, as in India; one separator
    # throughout. A grouped number never begins with 0: "0,123" may have a decimal comma.
    threes = rf"[1-9]\d{{0,2}}(?P<blank>[{separator}\s'\u2019])\d{{3}}(?:(?P=blank)\d{{3}})*"
    twos = rf"[1-9]\d?(?:[{separator}]\d\d)+[{separator}]\d{{3}}"
    return re.compile(
        rf"(?P<sign>[+-]?)\s?(?P<whole>{threes}|{twos}|\d*)(?:[{point}](?P<fraction>\d*))?"
        r"(?P<exponent>[eE][+-]?\d{1,3})?"
    )


_NUMBERS = {".": _number_pattern(".", ","), ",": _number_pattern(",", ".")}


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
    plain = _PLAIN_TYPES.get(field.type)
    if plain is not None:
        return plain(value)
    if field.type is FieldType.URL:
        return _url(value, field, base)
    return _OPTION_TYPES[field.type](value, field)


def clean_json(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with its strings cleaned. Raises ValueError if it is not a JSON value.

    A number that neither 64 bits nor a double hold becomes a string: no digit of it is lost.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        return _clean_number(value)
    if isinstance(value, list):
        return [clean_json(member, depth + 1) for member in cast("list[Any]", value)]
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return {clean_text(str(key)): clean_json(member, depth + 1) for key, member in members}
    raise ValueError(f"is a {type(value).__name__}")


def _clean_number(value: float | Decimal) -> float | str:
    if isinstance(value, int):
        return value if _INTEGERS[0] <= value <= _INTEGERS[1] else str(value)
    held = float(value)
    if isinstance(value, float) or not value.is_finite():
        return _finite(held)
    fits = math.isfinite(held) and (held != 0 or value == 0) and _is_held(value, held)
    return held if fits else str(value)


def _apply_match(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    if found is None:
        return None
    return found[1] if found.re.groups else found[0]


def _shown(value: Any) -> str:
    return (str(value) if isinstance(value, Decimal) else repr(value))[:60]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return format(value, "f") if abs(value.adjusted()) <= MAX_DIGITS else str(value)
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{_shown(value)} is not a string; use the type list or json")


def _string(value: Any) -> str:
    text = _text(value)
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"is longer than {MAX_TEXT_LENGTH:,} characters")
    return text


def _parse_decimal(value: Any, field: RecipeColumn, what: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{_shown(value)} is not a valid {what}")  # noqa: TRY004 - page content
    written = _plain_number(value, field.decimal) if isinstance(value, str) else str(value)
    number = Decimal(written) if 0 < len(written) <= MAX_DIGITS else Decimal("NaN")
    if not number.is_finite() or abs(number.adjusted()) > MAX_DIGITS:
        point = f' with decimal = "{field.decimal}"' if isinstance(value, str) else ""
        raise ValueError(f"{_shown(value)} is not a valid {what}{point}")
    return number


def _plain_number(text: str, point: str) -> str:
    """Return a written number without grouping and with a point; empty if it is not one."""
    found = _NUMBERS[point].fullmatch(text.replace("\u2212", "-"))
    if found is None:
        return ""
    whole, fraction = re.sub(r"\D", "", found["whole"]), found["fraction"] or ""
    if not whole and not fraction:
        return ""
    point_and_fraction = f".{fraction}" if fraction else ""
    return f"{found['sign']}{whole or 0}{point_and_fraction}{found['exponent'] or ''}"


def _integer(value: Any, field: RecipeColumn) -> int:
    number = _parse_decimal(value, field, "integer")
    if number != number.to_integral_value():
        raise ValueError(f"{_shown(value)} is not a valid integer")
    return _held_integer(int(number))


def _held_integer(number: int) -> int:
    if not _INTEGERS[0] <= number <= _INTEGERS[1]:
        raise ValueError(f"{_shown(number)} is not held by 64 bits; use the type decimal")
    return number


def _number(value: Any, field: RecipeColumn) -> float | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _held_integer(value)
    number = _parse_decimal(value, field, "number")
    held = _finite(float(number))
    if not _is_held(number, held):
        raise ValueError(f"{_shown(value)} is not held by a number; use the type decimal")
    return held


def _is_held(number: Decimal, held: float) -> bool:
    """Whether a double stands for a decimal without a loss that matters."""
    if len(number.as_tuple().digits) <= _EXACT_DIGITS:
        return True
    return abs(Decimal(held) - number) <= _MAX_ROUNDING


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


def _decimal(value: Any, field: RecipeColumn) -> str:
    return format(_parse_decimal(value, field, "decimal"), "f")


def _boolean(value: Any) -> bool:
    normalized = _text(value).strip().lower()
    if normalized in _TRUE:
        return True
    if normalized in _FALSE:
        return False
    raise ValueError(f"{_shown(value)} is not a valid boolean")


def _datetime(value: Any, field: RecipeColumn) -> str:
    return utc_datetime(value, field).isoformat().replace("+00:00", "Z")


def _date(value: Any, field: RecipeColumn) -> str:
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
    except (ValueError, ArithmeticError, OverflowError) as error:
        expected = f"{field.type} as {field.format}" if field.format else str(field.type)
        raise ValueError(f"{_shown(value)} is not a valid {expected}: {error}") from None
    if found.tzinfo is UTC:  # Unix time has no zone of its own
        return found.astimezone(zone)
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _parse_datetime(value: Any, layout: str | None) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("it is neither text nor a number")  # noqa: TRY004 - page content
    if layout in ("unix", "unix_ms"):
        number = Decimal(_plain_number(value, ".") if isinstance(value, str) else str(value))
        return dates.from_epoch(number / 1000 if layout == "unix_ms" else number)
    if layout is not None:
        return dates.read_layout(_text(value), layout)
    return dates.read_date(value).at if isinstance(value, str) else dates.read_epoch(value)


def _url(value: Any, field: RecipeColumn, base: str) -> str | None:
    written = _text(value)
    if written.lower().startswith(NO_PAGE_SCHEMES) and not field.required:
        return None
    return absolute_url(written, base)


def absolute_url(written: str, base: str) -> str:
    """Return an absolute http or https URL, resolved against `base`. Raises ValueError."""
    whole = resolve(base, written)
    if whole is None:
        raise ValueError(f"{_shown(written)} is not a valid URL")
    return whole


def _list(value: Any) -> list[Any]:
    members = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [clean_json(member) for member in members]


_PLAIN_TYPES: dict[FieldType, Callable[[Any], Any]] = {
    FieldType.STRING: _string,
    FieldType.BOOLEAN: _boolean,
    FieldType.LIST: _list,
    FieldType.JSON: clean_json,
}
# Those with options, such as the decimal point or the time zone.
_OPTION_TYPES: dict[FieldType, Callable[[Any, RecipeColumn], Any]] = {
    FieldType.INTEGER: _integer,
    FieldType.NUMBER: _number,
    FieldType.DECIMAL: _decimal,
    FieldType.DATETIME: _datetime,
    FieldType.DATE: _date,
}
