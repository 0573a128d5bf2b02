"""What a cron expression was read as, as text: it is stored, and no parser reads it again. Pure.

The text has what each of the six fields matches, and whether a day must match by both of its
fields or by either: `0 30 7 1-31 1-12 1-5 and` is `30 7 * * MON-FRI`. Days of the month may have
`L` and `LW`; days of the week, which Sunday begins as 0, `5L` and `1#2`.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby

from cronsim import CronSim

_NAMES = ("seconds", "minutes", "hours", "days", "months", "weekdays")
_LIMITS = (59, 59, 23, 31, 12, 6)
_WEEKS = 5
_SPECIAL_DAYS = {"L": CronSim.LAST, "LW": CronSim.LAST_WEEKDAY}
_PART = re.compile(r"(?P<first>\d\d?)(?:-(?P<last>\d\d?)|#(?P<week>\d)|(?P<final>L))?")

Member = int | tuple[int, int]


def to_text(sim: CronSim) -> str:
    """Return what cronsim has read, as text."""
    days_of_week = {_sunday_first(member) for member in sim.weekdays}
    fields = [sim.seconds, sim.minutes, sim.hours, sim.days, sim.months, days_of_week]
    return " ".join([*map(_field_text, fields), "and" if sim.day_and else "or"])


def to_sim(text: str, start: datetime) -> CronSim:
    """Return what finds the local times of `to_text`'s result. Raises ValueError for other text."""
    *fields, combination = text.split(" ")
    if len(fields) != len(_NAMES) or combination not in ("and", "or"):
        raise ValueError("it takes six fields, and how days combine")
    sim = CronSim("* * * * * *", start)
    for name, limit, field in zip(_NAMES, _LIMITS, fields, strict=True):
        members = {member for part in field.split(",") for member in _members(part, name, limit)}
        setattr(sim, name, members)
    sim.day_and = combination == "and"
    return sim


def _sunday_first(member: Member) -> Member:
    return member % 7 if isinstance(member, int) else (member[0] % 7, member[1])


def _field_text(members: Iterable[Member]) -> str:
    listed = list(members)
    numbers = sorted(n for n in listed if isinstance(n, int) and n >= 0)
    parts: list[str] = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        consecutive = [number for _, number in run]
        first, last = consecutive[0], consecutive[-1]
        parts.append(str(first) if first == last else f"{first}-{last}")
    parts += [name for name, special in _SPECIAL_DAYS.items() if special in listed]
    pairs = sorted(pair for pair in listed if not isinstance(pair, int))
    parts += [f"{day}L" if week == CronSim.LAST else f"{day}#{week}" for day, week in pairs]
    return ",".join(parts)


def _members(part: str, name: str, limit: int) -> Iterable[Member]:
    if name == "days" and part in _SPECIAL_DAYS:
        return [_SPECIAL_DAYS[part]]
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"{part!r} is not a part of {name}")
    first, last = int(found["first"]), int(found["last"] or found["first"])
    if not first <= last <= limit:
        raise ValueError(f"{part!r} is out of the range of {name}")
    if found["week"] is None and found["final"] is None:
        return range(first, last + 1)
    week = CronSim.LAST if found["final"] else int(found["week"])
    if name != "weekdays" or week == 0 or week > _WEEKS:
        raise ValueError(f"{part!r} is not a part of {name}")
    return [(first, week)]
