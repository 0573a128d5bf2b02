"""The time zone data of the `tzdata` wheel, which every process uses instead of the system's.

A stamp names one version of one zone's data: the IANA version, then a digest of the data. Of two
stamps of a zone the greater one is the newer. Data of other versions, which the database keeps for
the schedules that were derived with it, is added with `add`.
"""

import zoneinfo
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import tzdata

# zoneinfo asks the system first, whose data may be older, and caches what it has read.
zoneinfo.reset_tzpath(())
ZoneInfo.clear_cache()

VERSION: str = tzdata.IANA_VERSION
_WHEEL = Path(tzdata.__file__).with_name("zoneinfo")  # importlib.resources takes 20 ms to import
UNKNOWN_STAMP = ""  # of schedules stored before stamps were: the wheel's data is used

# An entry never changes: its key names its content.
_added: dict[tuple[str, str], ZoneInfo] = {}


def stamp_of(version: str, data: bytes) -> str:
    """Return the stamp of a zone's data (TZif) in an IANA version such as 2026f."""
    return f"{version}-{sha256(data).hexdigest()[:12]}"


def same_data(one: str, other: str) -> bool:
    """Return whether two stamps name the same data, in whatever versions."""
    return one.partition("-")[2] == other.partition("-")[2]


@lru_cache(maxsize=1024)
def wheel_data(name: str) -> bytes:
    """Return the zone's data in the wheel. Raises OSError if there is no such zone."""
    return _WHEEL.joinpath(*name.split("/")).read_bytes()


@lru_cache(maxsize=1024)
def wheel_stamp(name: str) -> str:
    """Return the stamp of the wheel's data for a zone. Raises OSError if there is no such zone."""
    return stamp_of(VERSION, wheel_data(name))


def is_known(name: str, stamp: str) -> bool:
    """Return whether `zone(name, stamp)` returns the data of exactly this stamp."""
    return stamp == UNKNOWN_STAMP or (name, stamp) in _added or _is_wheel(name, stamp)


def add(name: str, stamp: str, data: bytes) -> None:
    """Add a version of a zone. Raises ValueError if the data is not valid TZif."""
    _added[name, stamp] = ZoneInfo.from_file(BytesIO(data), key=name)


def zone(name: str, stamp: str = UNKNOWN_STAMP) -> ZoneInfo:
    """Return a zone by the data of `stamp`, or the wheel's if that was not added.

    Raises OSError or ValueError if there is no such zone.
    """
    added = _added.get((name, stamp))
    return _wheel_zone(name) if added is None else added


@lru_cache(maxsize=1024)
def _wheel_zone(name: str) -> ZoneInfo:
    return ZoneInfo.from_file(BytesIO(wheel_data(name)), key=name)


def _is_wheel(name: str, stamp: str) -> bool:
    try:
        return stamp == wheel_stamp(name)
    except (OSError, ValueError):
        return False
