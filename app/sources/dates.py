"""Reading of written dates, for feeds and recipes. A date that is not understood is refused.

Understood are ISO 8601 and RFC 3339, RFC 822 and RFC 2822, what JavaScript's `Date` prints, and the
forms that feeds use besides: months and weekdays in seven languages, ordinals, am and pm, named
zones and offsets. A date whose day and month could be exchanged is read only if its weekday or its
numbers decide.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

MAX_LENGTH = 100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAUSIBLE_SECONDS = (10**8, 4_102_444_800)  # 1973 to 2100
_MILLISECONDS = 1000
_CENTURY_PIVOT = 50  # RFC 2822, section 4.3
_HOURS_OF_HALF_DAY = 12
_OFFSETS = (timedelta(hours=-12), timedelta(hours=14))  # the offsets in use on Earth
_YEAR_DIGITS = 4

_MONTHS = (
    "january januar janvier enero gennaio janeiro januari jaenner",
    "february februar fevrier febrero febbraio fevereiro februari",
    "march marz mars marzo marco maart mrz mrt maerz",
    "april avril abril aprile",
    "may mai mayo maggio maio mei",
    "june juni juin junio giugno junho",
    "july juli juillet julio luglio julho",
    "august aout agosto augustus",
    "september septembre septiembre settembre setembro",
    "october oktober octobre octubre ottobre outubro",
    "november novembre noviembre novembro",
    "december dezember decembre diciembre dicembre dezembro",
)
_WEEKDAYS = (
    "monday montag lundi lunes lunedi segunda maandag",
    "tuesday dienstag mardi martes martedi terca dinsdag",
    "wednesday weds mittwoch mercredi miercoles mercoledi quarta woensdag",
    "thursday donnerstag jeudi jueves giovedi quinta donderdag",
    "friday freitag vendredi viernes venerdi sexta vrijdag",
    "saturday samstag sonnabend samedi sabado sabato zaterdag",
    "sunday sonntag dimanche domingo domenica zondag",
)
_JOINING = frozenset({"at", "um", "de", "del", "of", "the", "den", "le", "el", "il", "uhr"})
_HOURS = (  # of offset from UTC, by name
    "UT:0 UTC:0 GMT:0 Z:0 WET:0 EST:-5 EDT:-4 CST:-6 CDT:-5 MST:-7 MDT:-6 PST:-8 PDT:-7 AKST:-9"
    " AKDT:-8 HST:-10 NST:-3.5 NDT:-2.5 BST:1 WEST:1 CET:1 MEZ:1 CEST:2 MESZ:2 EET:2 EEST:3 MSK:3"
    " TRT:3 IDT:3 WAT:1 CAT:2 SAST:2 EAT:3 PKT:5 NPT:5.75 ICT:7 WIB:7 WITA:8 WIT:9 HKT:8 SGT:8"
    " MYT:8 JST:9 KST:9 AWST:8 ACST:9.5 ACDT:10.5 AEST:10 AEDT:11 NZST:12 NZDT:13 BRT:-3 BRST:-2"
    " ART:-3 COT:-5 PET:-5"
)
_ZONES: dict[str, tzinfo] = {
    name: timezone(timedelta(hours=float(hours)))
    for name, _, hours in (zone.partition(":") for zone in _HOURS.split())
}
_REGIONS = {
    "ET": "America/New_York",
    "CT": "America/Chicago",
    "MT": "America/Denver",
    "PT": "America/Los_Angeles",
}
_AMBIGUOUS_ZONES = frozenset({"IST", "AST", "ADT", "GST", "SST", "ECT", "AMT", "PYT", "LMT"})

_OFFSET = r"[+-]\d{1,2}(?::?\d\d(?::00)?)?|[+-]\d{3}"
_ISO = re.compile(
    r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[Tt\s]\s*(?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<part>\d{1,12}))?)?)?"
    rf"\s*(?P<zone>[Zz]|UTC|GMT|{_OFFSET})?)?"
)
_MAIL_MONTHS = [name[:3].capitalize() for name in _MONTHS]
_MAIL = re.compile(  # RFC 2822, section 3.3, which most dates of feeds are; read first
    r"(?:[MTWFS][a-z]{2}, )?(?P<day>\d{1,2}) (?P<month>"
    + "|".join(_MAIL_MONTHS)
    + r") (?P<year>\d{4})"
    r" (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?P<part>) (?P<zone>GMT|[+-]\d{4})"
)
_DIGITS = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")
_WEEK_DATE = re.compile(r"(\d{4})-?W(\d\d)-?([1-7])")
_TIME = re.compile(
    r"(?<![\d:.+-])(?:(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<part>\d{1,12}))?)?"
    r"(?:\s*(?P<half>[ap])\.?\s?m\b\.?)?|(?P<whole_hour>\d{1,2})\s*(?P<whole_half>[ap])\.?\s?m\b\.?)"
    r"(?![\d:])",
    re.IGNORECASE,
)
_NAME = r"[A-Za-z]{1,5}(?![A-Za-z/])|[A-Z][A-Za-z_]+(?:/[A-Za-z_+-]+){1,2}"
_ZONE = re.compile(
    rf"\s*(?:(?P<name>{_NAME})\s?(?P<named_offset>{_OFFSET})?(?!\d)"
    rf"|(?P<offset>{_OFFSET})(?!\d)\s?(?P<after>{_NAME})?)"
)
_JOINED_TIME = re.compile(r"(?<=\d)[Tt](?=\d)")
_COMMENT = re.compile(r"\s*(?:\(([^()]*)\)|\[([^\[\]]*)\])$")
_WORD = re.compile(r"[^\W\d_]+")
_ORDINAL = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th|er|º|ª)\b", re.IGNORECASE)
_DAY_FIRST = re.compile(r"(\d{1,2})[ .-]*M(\d{1,2})M[ .-]*(\d{4}|\d\d)")
_MONTH_FIRST = re.compile(r"M(\d{1,2})M[ .-]*(\d{1,2})[ .-]+(\d{4})")
_YEAR_FIRST = re.compile(r"(\d{4})[ .-]*M(\d{1,2})M[ .-]*(\d{1,2})")
_NUMERIC = re.compile(r"(\d{4}|\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{1,2})\.?")


@dataclass(frozen=True, slots=True)
class WrittenDate:
    """A date as written. `at` has a time zone only if one was written.

    `has_time`: whether a time of day was written; without one, `at` is midnight.
    """

    at: datetime
    has_time: bool


def read_date(text: str) -> WrittenDate:
    """Return the date in `text`. Raises ValueError with the reason that it cannot be read."""
    text = unicodedata.normalize("NFKC", text[: MAX_LENGTH + 1]).replace("\u2212", "-")
    text = " ".join(text.split())
    if not text or len(text) > MAX_LENGTH:
        raise ValueError("it is empty" if not text else "it is too long")
    if text.isascii() and text.isdecimal():
        return _read_digits(text)
    found = _ISO.fullmatch(text)
    if found is not None:
        clock = None if found["hour"] is None else _clock(found, found["hour"], None)
        return _combined(
            _as_date(found["year"], found["month"], found["day"]), clock, found["zone"]
        )
    found = _MAIL.fullmatch(text)
    if found is not None:
        month = str(_MAIL_MONTHS.index(found["month"]) + 1)
        clock = _clock(found, found["hour"], None)
        return _combined(_as_date(found["year"], month, found["day"]), clock, found["zone"])
    week = _WEEK_DATE.fullmatch(text)
    if week is not None:
        return _combined(date.fromisocalendar(int(week[1]), int(week[2]), int(week[3])), None, None)
    return _read_words(text)


def read_epoch(number: Decimal | float) -> datetime:
    """Return a number as Unix time: seconds or milliseconds, of the years 1973 to 2100.

    Raises ValueError if it is neither, or if it could also be a calendar date in digits.
    """
    value = Decimal(str(number))
    low, high = _PLAUSIBLE_SECONDS
    if low <= value < high and not _is_calendar(value, "20"):
        return from_epoch(value)
    in_milliseconds = low * _MILLISECONDS <= value < high * _MILLISECONDS
    if in_milliseconds and not _is_calendar(value, "19", "20"):
        return from_epoch(value / _MILLISECONDS)
    raise ValueError("the number is not plausible as Unix time; name its format")


def from_epoch(seconds: Decimal) -> datetime:
    """Return these Unix seconds as a UTC datetime, to the microsecond. Raises ValueError."""
    try:
        return EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
    except (OverflowError, ArithmeticError):
        raise ValueError("the number is not a time") from None


def read_layout(text: str, layout: str) -> datetime:
    """Return `text` read by a `strptime` layout; with a zone only if the layout has one.

    A final `%Z` takes the names of zones that `read_date` takes. Raises ValueError.
    """
    if not layout.endswith("%Z"):
        return datetime.strptime(text, layout)  # noqa: DTZ007 - the caller sets the time zone
    before, _, name = text.strip().rpartition(" ")
    if not before:
        raise ValueError("it has no time zone")
    local = datetime.strptime(before, layout.removesuffix("%Z").strip())  # noqa: DTZ007 - set next
    return _with_zone(local, name)


def _is_calendar(value: Decimal, *centuries: str) -> bool:
    """Whether the digits of a number also read as year, month, day, hour and maybe minute."""
    digits = str(value)
    if len(digits) not in (10, 12) or not digits.startswith(centuries):
        return False
    try:
        datetime(*(int(part) for part in re.findall(r"^\d{4}|\d\d", digits)))  # pyright: ignore[reportArgumentType] - checked here  # noqa: DTZ001 - only checked
    except ValueError:
        return False
    return True


def _read_digits(text: str) -> WrittenDate:
    if len(text) == len("20261120"):
        return _combined(_as_date(text[:4], text[4:6], text[6:]), None, None)
    written = _DIGITS.fullmatch(text)
    if written is not None:
        year, month, day, hour, minute, second = map(int, written.groups())
        return WrittenDate(datetime(year, month, day, hour, minute, second), has_time=True)  # noqa: DTZ001 - no zone is written
    return WrittenDate(read_epoch(Decimal(text)), has_time=True)


def _read_words(text: str) -> WrittenDate:
    comment = _COMMENT.search(text)
    text = _JOINED_TIME.sub(" ", text[: comment.start()] if comment else text)
    times = list(_TIME.finditer(text))
    if len(times) > 1:
        raise ValueError("it has two times of day")
    if times:
        found = times[0]
        half = found["half"] or found["whole_half"]
        clock = _clock(found, found["hour"] or found["whole_hour"], half)
        before, rest = text[: found.start()], text[found.end() :]
        zone = _ZONE.match(rest)
        if zone is not None and zone["name"] and not _is_zone_name(zone["name"]):
            zone = None
        rest = rest[zone.end() :] if zone else rest
        zone_text = zone[0].strip() if zone else ""
        text = f"{before} {rest}"
    else:
        clock, zone_text = None, ""
    text, trailing = _split_trailing_zone(text) if not zone_text else (text, "")
    zone_text = zone_text or trailing
    if comment and not zone_text and clock is not None:
        zone_text = (comment[1] or comment[2] or "").strip()
        if not zone_text:
            raise ValueError("it has an empty comment")
    return _combined(_read_day(text), clock, zone_text or None)


def _split_trailing_zone(text: str) -> tuple[str, str]:
    """Return a date without a zone that follows it, and the zone: `26 Sep 2022 GMT`."""
    before, _, last = text.strip().rpartition(" ")
    if before and (_is_zone_name(last) or re.fullmatch(r"[+-]\d\d:?\d\d", last)):
        return before, last
    return text, ""


def _read_day(text: str) -> date:
    text = _ORDINAL.sub(r"\1", "".join(c for c in _folded(text) if c != ","))
    words = _WORD.findall(text)
    months, weekdays = list[str](), set[int]()
    for number, word in enumerate(words):
        month, weekday = _matches(word, _MONTHS), _matches(word, _WEEKDAYS)
        is_weekday = weekday and (number == 0 or not month)
        if month and not (is_weekday and any(_matches(w, _MONTHS) for w in words[number + 1 :])):
            if len(month) > 1:
                raise ValueError(f"{word!r} is more than one month")
            months.append(word)
        elif weekday:
            weekdays |= weekday
        elif word not in _JOINING:
            raise ValueError(f"{word!r} is not known")
    if len(months) > 1:
        raise ValueError("it has two months")

    def replaced(match: re.Match[str]) -> str:
        if months and match[0] == months[0]:
            return f"M{min(_matches(match[0], _MONTHS)) + 1}M"
        return ""

    rest = _WORD.sub(replaced, text)
    rest = re.sub(r"M\.", "M", re.sub(r"(?<!\d)[.\-](?=\s|$)|^[.\s]+", " ", rest))
    rest = " ".join(rest.split()).strip(" -")
    return _numeric_day(rest, weekdays) if not months else _named_day(rest)


def _named_day(rest: str) -> date:
    if (found := _DAY_FIRST.fullmatch(rest)) is not None:
        return _as_date(found[3], found[2], found[1])
    if (found := _MONTH_FIRST.fullmatch(rest)) is not None:
        return _as_date(found[3], found[1], found[2])
    if (found := _YEAR_FIRST.fullmatch(rest)) is not None:
        return _as_date(found[1], found[2], found[3])
    raise ValueError("it is not a day, a month and a year")


def _numeric_day(rest: str, weekdays: set[int]) -> date:
    found = _NUMERIC.fullmatch(rest)
    if found is None:
        raise ValueError("it is not a day, a month and a year")
    first, separator, second, third = found.groups()
    if len(first) == _YEAR_DIGITS:
        return _as_date(first, second, third)
    orders = [(third, second, first)]
    if separator != ".":  # dotted dates are written with the day first
        orders.append((third, first, second))
        if len(third) != _YEAR_DIGITS:
            orders.append((first, second, third))
    possible = {day for order in orders if (day := _possible(*order))}
    if len(possible) > 1:
        possible = {day for day in possible if day.weekday() in weekdays}
        if len(possible) != 1:
            raise ValueError("the order of its day and month is not clear")
    if not possible:
        raise ValueError("it has no such day")
    return possible.pop()


def _possible(year: str, month: str, day: str) -> date | None:
    try:
        return _as_date(year, month, day)
    except ValueError:
        return None


def _as_date(year: str, month: str, day: str) -> date:
    number = int(year)
    if len(year) != _YEAR_DIGITS:
        if len(year) != 2:  # noqa: PLR2004 - digits of a year without its century
            raise ValueError("its year has neither two nor four digits")
        number += 2000 if number < _CENTURY_PIVOT else 1900
    return date(number, int(month), int(day))


def _clock(found: re.Match[str], hour_text: str, half: str | None) -> timedelta:
    """Return the time of day as the time since midnight; 24:00 and a leap second are allowed."""
    hour, minute, second = int(hour_text), int(found["minute"] or 0), int(found["second"] or 0)
    part = int((found["part"] or "0").ljust(6, "0")[:6])
    if half is not None:
        if not (1 <= hour <= _HOURS_OF_HALF_DAY or (hour == 0 and half in "aA")):
            raise ValueError(f"there is no {hour} o'clock {half}m")
        hour = hour % _HOURS_OF_HALF_DAY + (_HOURS_OF_HALF_DAY if half in "pP" else 0)
    if second > 59 and (second, minute) != (60, 59):  # noqa: PLR2004 - a leap second ends an hour
        raise ValueError(f"there is no second {second}")
    if minute > 59 or (hour, minute, second, part) > (24, 0, 0, 0):  # noqa: PLR2004 - 24:00 ends a day
        raise ValueError(f"there is no time {hour}:{minute:02}")
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=part)


def _combined(day: date, clock: timedelta | None, zone: str | None) -> WrittenDate:
    local = datetime(day.year, day.month, day.day) + (clock or timedelta())  # noqa: DTZ001 - set next
    return WrittenDate(_with_zone(local, zone) if zone else local, has_time=clock is not None)


def _with_zone(local: datetime, text: str) -> datetime:
    found = _ZONE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time zone")
    name, offset = found["name"] or found["after"], found["named_offset"] or found["offset"]
    if offset is None:
        return local.replace(tzinfo=_named_zone(name or ""))
    whole = _parse_offset(offset)
    aware = local.replace(tzinfo=whole)
    if name and not _agrees(name, whole, local):
        raise ValueError(f"{text!r} names two time zones")
    return aware


def _agrees(name: str, offset: tzinfo, local: datetime) -> bool:
    # `GMT+0100`: the offset is from GMT. `-05:00Z`: the Z is a mistake that many programs make.
    if name.upper() in ("GMT", "UTC", "UT", "Z"):
        return True
    return local.replace(tzinfo=_named_zone(name)).utcoffset() == offset.utcoffset(None)


def _named_zone(name: str) -> tzinfo:
    if name.upper() in _AMBIGUOUS_ZONES:
        raise ValueError(f"{name} is the name of more than one time zone")
    known = _ZONES.get(name.upper())
    if known is not None:
        return known
    region = _REGIONS.get(name.upper()) or (name if "/" in name else None)
    try:
        if region is not None:
            return ZoneInfo(region)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        pass
    raise ValueError(f"unknown time zone {name}")


def _is_zone_name(name: str) -> bool:
    if "/" in name:
        return name[0].isalpha()
    return any(name.upper() in zones for zones in (_ZONES, _REGIONS, _AMBIGUOUS_ZONES))


def _parse_offset(text: str) -> timezone:
    digits = text[1:].replace(":", "")
    digits = digits[:4] if ":" in text or len(digits) > 4 else digits  # noqa: PLR2004 - without seconds
    hours, minutes = (digits, "0") if len(digits) <= 2 else (digits[:-2], digits[-2:])  # noqa: PLR2004 - only hours
    if int(minutes) > 59:  # noqa: PLR2004 - minutes of an hour
        raise ValueError(f"invalid time zone offset {text}")
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if text[0] == "-" else 1)
    if not _OFFSETS[0] <= offset <= _OFFSETS[1]:
        raise ValueError(f"no time zone has the offset {text}")
    return timezone(offset)


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


@lru_cache(maxsize=1_024)
def _matches(word: str, names: tuple[str, ...]) -> frozenset[int]:
    """Return the numbers of the months or weekdays that begin with `word`."""
    shortest = 3 if names is _MONTHS else 2
    if len(word) < shortest:
        return frozenset()
    return frozenset(
        n for n, known in enumerate(names) if any(k.startswith(word) for k in known.split())
    )
