"""Base of a recipe's TOML tables, and the types of their values."""

from datetime import date, timedelta
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)

from app.core.durations import parse_duration

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,59}$"
COLUMN_PATTERN = r"^[a-z][a-z0-9_]{0,59}$"
# Headers that identify the client or frame the request. A recipe that set the framing headers could
# smuggle a second request past a proxy.
RESERVED_HEADERS = frozenset(
    {"user-agent", "host", "content-length", "accept-encoding", "connection"}
    | {"transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive", "proxy-connection"}
)
SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"}
)


class RecipeBlock(BaseModel):
    """A table of a recipe. Unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    for name, value in lower.items():
        if name in RESERVED_HEADERS:
            raise ValueError(f"{name} is set by Rollcall; remove it")
        if name in SECRET_HEADERS:
            raise ValueError(f"{name} carries a secret; use the block [auth] instead")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{name[:40]!r} is not a header name; use letters and hyphens")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} is not printable ASCII; encode it")
    return lower


def check_key_name(name: str) -> str:
    if name.lower() in RESERVED_HEADERS:
        raise ValueError(
            f"{name.lower()} is set by Rollcall; name the header that the site requires"
        )
    return name


def as_tables(value: object) -> object:
    if isinstance(value, list):
        return [{"each": member} if isinstance(member, str) else member for member in value]  # pyright: ignore[reportUnknownVariableType] - pydantic validates next
    return value


def as_extracted(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def as_value(value: object) -> object:
    return {"value": value} if isinstance(value, str) else value


def as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_url(value: str) -> str:
    start, _, rest = value.partition("://")
    if start not in ("http", "https"):
        raise ValueError("is not a URL; it must begin with https:// or http://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    if "{" in host:
        raise ValueError("has a {placeholder} in its host; write the host out")
    if "@" in host:
        raise ValueError("contains a user name; use the block [auth] instead")
    if not host or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError("is not a URL; write a host, and no spaces")
    return value


def _check_reference(value: str) -> str:
    scheme, colon, name = value.partition(":")
    plain = name.replace("_", "").isalnum() and name.isascii() and not name[:1].isdigit()
    if scheme not in ("env", "secret") or not colon or not plain:
        raise ValueError(
            "must not contain the secret itself; write env:NAME (the operator's)"
            " or secret:NAME (your own)"
        )
    return value


Url = Annotated[str, Field(max_length=4_000), AfterValidator(_check_url)]
Reference = Annotated[
    str,
    Field(max_length=100, json_schema_extra={"pattern": "^(env|secret):"}),
    AfterValidator(_check_reference),
]


def _as_text(duration: timedelta) -> str:
    rest = duration - timedelta(days=duration.days)
    return f"{duration.days}d{rest.total_seconds():.3f}s"


Seconds = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(_as_text, when_used="json"),  # it is read back by the sandbox
    Field(ge=timedelta(0)),
]
Text = Annotated[str, Field(max_length=2_000)]
Plain = Text | int | float | bool
Column = Annotated[str, Field(pattern=COLUMN_PATTERN)]
Param = Annotated[str, Field(min_length=1, max_length=200)]


def _iso_text(value: object) -> object:
    """Return a date or timestamp of TOML as text."""
    return value.isoformat() if isinstance(value, date) else value


Moment = Annotated[
    str, Field(max_length=100), BeforeValidator(_iso_text, json_schema_input_type=str)
]
