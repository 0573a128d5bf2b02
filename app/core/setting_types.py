"""The types of settings: how each is read from its text, and what is not valid."""

import os
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from app.core import alert_routes, quiet_hours
from app.core.errors import file_reason
from app.core.secret_keys import secret_keys

PLATFORMS = ("sportybet", "betpawa", "bet9ja")
DEFAULT_JOBS = ("jobs",)
MAX_ENTITY_LENGTH = 200
MIN_NEWS_DAYS = 3


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())
    return value


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _entities(value: object) -> object:
    """Read names separated by commas, or a file (its path or `@path`) with one name per line."""
    if not isinstance(value, str):
        return value
    path = Path(value.removeprefix("@").strip())
    if not value.startswith("@") and ("," in value or not os.path.isfile(path)):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        return tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file {path} cannot be read: {file_reason(error)}") from None
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def _unique(value: tuple[str, ...]) -> tuple[str, ...]:
    long = [name[:40] for name in value if len(name) > MAX_ENTITY_LENGTH]
    if long:
        raise ValueError(f"{long[0]!r}… is longer than {MAX_ENTITY_LENGTH} characters")
    by_folded: dict[str, str] = {}
    for name in value:
        by_folded.setdefault(name.casefold(), name)
    return tuple(by_folded.values())


def _known_platforms(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in value if name not in PLATFORMS]
    if unknown:
        raise ValueError(f"unknown platform {', '.join(unknown)}; known: {', '.join(PLATFORMS)}")
    if not value:
        raise ValueError(f"name at least one of: {', '.join(PLATFORMS)}")
    return tuple(dict.fromkeys(value))


def _postgres(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgres://", "postgresql://")):
        raise ValueError("must start with postgres:// or postgresql://")
    return _readable_address(value)


def _readable_address(value: SecretStr) -> SecretStr:
    if not _has_readable_address(value.get_secret_value()):
        raise ValueError(
            "is not a valid URL; special characters in a password must be percent-encoded"
        )
    return value


def _has_readable_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Of several hosts, which Postgres' URLs may have, each has a port of its own.
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    # A password that has a / or # ends what is read as the host.
    return parts.scheme == "unix" or "@" not in parts.path + parts.fragment


def _redis(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    parts = urlsplit(_readable_address(value).get_secret_value())
    if parts.scheme != "unix" and re.fullmatch(r"/?\d*", parts.path) is None:
        raise ValueError("must end with the number of a database, such as /0, or without one")
    if parts.query:
        _check_redis_options(value.get_secret_value())
    return value


def _check_redis_options(url: str) -> None:
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - only a URL with options
    from redis.exceptions import RedisError  # noqa: PLC0415 - as above

    try:
        BlockingConnectionPool.from_url(url).make_connection()  # pyright: ignore[reportUnknownMemberType] - bare kwargs; does not connect
    except (ValueError, TypeError, RedisError) as error:
        reason = str(error).rpartition("__init__() got an ")[2].rstrip(".")
        raise ValueError(f"has an option that cannot be used after its ?: {reason}") from None


def _at_least_news_days(value: int) -> int:
    if 0 < value < MIN_NEWS_DAYS:
        raise ValueError(f"must be 0 or at least {MIN_NEWS_DAYS}: polls look back up to two days")
    return value


def base_url(value: str) -> str:
    """Return a URL that paths are appended to, without a slash at its end. Raises ValueError."""
    _check_http(value)
    if "@" in urlsplit(value).netloc:
        raise ValueError("must not contain a user name: credentials have their own settings")
    if "?" in value or "#" in value:
        raise ValueError("must not contain ? or #: paths are appended to it")
    return value.rstrip("/")


def _check_http(value: str) -> None:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    try:
        named = urlsplit(value).hostname and urlsplit(value).port != 0
    except ValueError:
        named = False
    if not named or not value.isprintable() or " " in value:
        raise ValueError("must name a host and no invalid port, such as https://example.org:8443")


def _check_header(value: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("must be ASCII characters only: it is sent in a header")


def _check_alert_urls(value: str) -> None:
    for address in value.split():
        if "://" not in address:
            raise ValueError("must be URLs such as json://host/path, separated by spaces")


def _check_pings(value: str) -> None:
    pairs = _ping_pairs(value)
    for name, address in pairs:
        if not name or not address:
            raise ValueError("must be job=https://…, separated by commas or spaces")
        _check_http(address)
    _check_once([name for name, _ in pairs])


def _keys(value: SecretStr) -> SecretStr:
    secret_keys(value)
    return value


def pings(value: SecretStr | None) -> dict[str, str]:
    """Return the ping URLs by job, from `job=https://…` separated by commas or spaces."""
    return {} if value is None else dict(_ping_pairs(value.get_secret_value()))


def _ping_pairs(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"[\s,]+(?=[^\s,=/]+=)", text.strip(", \n"))
    pairs = [part.partition("=") for part in parts if part]
    return [(name.strip(), address.strip()) for name, _, address in pairs]


def _numbers_by_name(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not name.strip() or not number.strip() for name, _, number in pairs):
        raise ValueError("must be name=number, separated by commas")
    _check_once([name.strip() for name, _, _ in pairs])
    return {name.strip(): number.strip() for name, _, number in pairs}


def _check_once(names: list[str]) -> None:
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"names {', '.join(sorted(twice))} more than once")


def _exceptions(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if re.fullmatch(r"[\da-f:.]+(/\d+)?", value) and set(value) & set("/:"):
            ip_network(value)  # raises ValueError, which names the value and what is wrong
        elif not re.fullmatch(r"[\w.-]+", value):
            raise ValueError(
                f"{value!r} is no host, address or network, such as intranet.example,10.1.0.0/16"
            )
    return values


def _directory(value: Path) -> Path:
    if os.path.isfile(value):  # noqa: PTH113 - as above
        raise ValueError("is a file; it must be a directory")
    return value


def _proxies(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value != "*":
            ip_network(value)  # raises ValueError, which names the value
    return values


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """A text or a secret of which `check` raises ValueError if it is not valid."""

    def validate(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text:
            check(text)
        return value

    return AfterValidator(validate)


Directory = Annotated[Path, AfterValidator(_directory)]
Url = Annotated[str, AfterValidator(base_url)]
Minutes = Annotated[float, Field(gt=0, le=60 * 24 * 366)]
Entities = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_entities), AfterValidator(_unique)]
MonthlyRequests = Annotated[
    dict[str, Annotated[int, Field(ge=0, le=10**12)]], NoDecode, BeforeValidator(_numbers_by_name)
]
FreshMinutes = Annotated[dict[str, Minutes], NoDecode, BeforeValidator(_numbers_by_name)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Days = Annotated[int, Field(ge=0, le=36_500)]  # 0 keeps for ever
Rules = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
AlertRoutes = Annotated[SecretStr, _checked(alert_routes.parse)]
CronText = Annotated[str, Field(max_length=500)]
ZoneName = Annotated[str, Field(max_length=64)]
UpToAWeek = Annotated[float, Field(ge=0, le=604_800)]  # seconds
UpToADay = Annotated[float, Field(gt=0, le=86_400)]  # seconds
Attempts = Annotated[int, Field(ge=1, le=20)]
Bound = Annotated[str, Field(max_length=40)]
CatchUp = Annotated[int, Field(ge=1, le=1000)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
Platforms = Annotated[Names, AfterValidator(_known_platforms)]
HeaderSecret = Annotated[SecretStr, _checked(_check_header)]
HeaderText = Annotated[str, Field(max_length=200), _checked(_check_header)]
GuardExceptions = Annotated[Names, AfterValidator(_exceptions)]
EncryptionKeys = Annotated[SecretStr, AfterValidator(_keys)]
NewsDays = Annotated[Days, AfterValidator(_at_least_news_days)]
AlertUrls = Annotated[SecretStr, _checked(_check_alert_urls)]
QuietHoursText = Annotated[str, _checked(quiet_hours.parse)]
PingUrls = Annotated[SecretStr, _checked(_check_pings)]
PingUrl = Annotated[SecretStr, _checked(_check_http)]
Proxies = Annotated[Names, AfterValidator(_proxies)]
