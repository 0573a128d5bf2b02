"""The settings, read once from the environment and `.env`. No other module reads the environment.

The class is called Config because arq uses the name Settings.
"""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core import alert_routes, redact
from app.core.enums import Coalesce, Overlap
from app.core.errors import BadConfig
from app.core.setting_types import (
    DEFAULT_JOBS,
    PLATFORMS,
    AlertRoutes,
    AlertUrls,
    Attempts,
    Bound,
    CatchUp,
    CronText,
    Days,
    Directory,
    EncryptionKeys,
    Entities,
    FreshMinutes,
    GuardExceptions,
    HeaderSecret,
    HeaderText,
    Minutes,
    MonthlyRequests,
    NewsDays,
    PingUrl,
    PingUrls,
    Platforms,
    PostgresUrl,
    Proxies,
    QuietHoursText,
    RedisUrl,
    Rules,
    UpToADay,
    UpToAWeek,
    Url,
    ZoneName,
)
from app.core.validation import fault_sentence

LIKENESS = 0.86  # of a misspelt name to a setting's
_TOKEN = re.compile(r"(?=.*\d)[\w-]{12,}")


def _secret_parts(address: str) -> list[str]:
    """Return the secret parts of a URL: passwords, and the tokens in its host and path."""
    if "://" not in address:
        return []
    try:
        parts = urlsplit(address)
        passwords = [parts.password or ""]
    except ValueError:
        return []
    passwords += [v for name, v in parse_qsl(parts.query) if redact.names_a_secret(name)]
    tokens = re.split(r"[/@:]", f"{parts.netloc}/{parts.path}")
    passwords = [*passwords, *map(unquote, passwords)]
    return [*passwords, *(token for token in tokens if _TOKEN.fullmatch(token))]


def _default_proxies() -> tuple[str, ...]:
    # Heroku's router has no fixed addresses, and a dyno is reached through it only.
    return ("*",) if "DYNO" in os.environ else ()  # noqa: TID251 - the one module that reads it


class Config(BaseSettings):
    """Every setting with its default. `.env.example` describes each one."""

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    database_url: PostgresUrl | None = None
    database_pool_size: Annotated[int, Field(ge=2, le=100)] = 10
    redis_url: RedisUrl | None = None
    redis_ssl_cert_reqs: Literal["required", "none"] = "required"
    data_dir: Directory = Path(".rollcall")

    scrape_interval_minutes: Minutes = 5
    news_interval_minutes: Minutes = 15
    stories_interval_minutes: Minutes = 60
    misfire_grace_seconds: UpToADay = 60
    job_timeout_seconds: UpToADay = 240
    max_attempts: Attempts = 3

    scrape_schedule: CronText = ""
    scrape_timezone: ZoneName = ""
    scrape_exclude: Rules = ()
    scrape_start: Bound = ""
    scrape_end: Bound = ""
    scrape_overlap: Overlap = Overlap.SKIP
    scrape_coalesce: Coalesce = Coalesce.LATEST
    scrape_catch_up: CatchUp | None = None
    scrape_misfire_grace_seconds: UpToAWeek | None = None
    scrape_jitter_seconds: UpToAWeek = 0
    scrape_timeout_seconds: UpToADay | None = None
    scrape_max_attempts: Attempts | None = None

    news_schedule: CronText = ""
    news_timezone: ZoneName = ""
    news_exclude: Rules = ()
    news_start: Bound = ""
    news_end: Bound = ""
    news_overlap: Overlap = Overlap.SKIP
    news_coalesce: Coalesce = Coalesce.LATEST
    news_catch_up: CatchUp | None = None
    news_misfire_grace_seconds: UpToAWeek | None = None
    news_jitter_seconds: UpToAWeek = 0
    news_timeout_seconds: UpToADay | None = None
    news_max_attempts: Attempts | None = None

    stories_schedule: CronText = ""
    stories_timezone: ZoneName = ""
    stories_exclude: Rules = ()
    stories_start: Bound = ""
    stories_end: Bound = ""
    stories_overlap: Overlap = Overlap.SKIP
    stories_coalesce: Coalesce = Coalesce.LATEST
    stories_catch_up: CatchUp | None = None
    stories_misfire_grace_seconds: UpToAWeek | None = None
    stories_jitter_seconds: UpToAWeek = 0
    stories_timeout_seconds: UpToADay | None = None
    stories_max_attempts: Attempts | None = None

    odds_platforms: Platforms = PLATFORMS
    sportybet_url: Url = "https://www.sportybet.com/api/ng/factsCenter"
    betpawa_url: Url = "https://www.betpawa.ng/api/sportsbook"
    betpawa_version: Literal["v3", "v4"] = "v4"
    betpawa_brand: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "betpawa-nigeria"
    bet9ja_url: Url = "https://sports.bet9ja.com/desktop/feapi/PalimpsestAjax"
    odds_changes_days: Days = 0
    tracked_entities: Entities = ()
    asknews_url: Url = "https://api.asknews.app/v1"
    asknews_token_url: Url = "https://auth.asknews.app/oauth2/token"  # noqa: S105 - no secret
    asknews_api_key: HeaderSecret | None = None
    asknews_client_id: str | None = None
    asknews_client_secret: SecretStr | None = None
    asknews_page_size: Annotated[int, Field(ge=1, le=101)] = 100
    asknews_max_pages: Annotated[int, Field(ge=1, le=100)] = 5
    asknews_lookback_hours: Annotated[float, Field(gt=0, le=48)] = 48
    asknews_historical: bool = False
    asknews_podcasts: bool = False
    asknews_overlap_minutes: Annotated[float, Field(ge=0, le=2_880)] = 30
    contact: HeaderText = ""
    guard_allow: GuardExceptions = ()
    # Absolute, because a job may change the working directory.
    sources_dir: Annotated[Directory, AfterValidator(Path.absolute)] | None = None
    jobs: Rules = DEFAULT_JOBS
    secrets_key: EncryptionKeys | None = None
    raw_days: Annotated[int, Field(ge=0, le=365)] = 3
    run_days: Days = 90
    tick_days: Days = 90
    beat_days: Days = 90
    rejected_days: Days = 30
    odds_event_days: Days = 0
    article_days: NewsDays = 0
    story_days: NewsDays = 0
    item_days: Days = 90
    change_days: Days = 90

    collection_misfire_grace_seconds: Annotated[float, Field(gt=0, le=604_800)] = 3600
    collection_jitter_seconds: Annotated[float, Field(ge=0, le=3600)] = 30
    org_max_sources: Annotated[int, Field(ge=1, le=1000)] = 10
    org_runs_per_day: Annotated[int, Field(ge=1, le=100_000)] = 300
    org_max_pages: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    org_max_mb: Annotated[float, Field(gt=0, le=100_000)] = 100
    org_max_minutes: Annotated[float, Field(gt=0, le=1440)] = 15
    org_max_recipes: Annotated[int, Field(ge=0, le=1000)] = 20
    org_max_collections: Annotated[int, Field(ge=1, le=1000)] = 10
    org_max_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    org_max_stored_mb: Annotated[float, Field(gt=0, le=10_000_000)] = 500
    org_asknews: bool = False

    health_failing_after: Annotated[int, Field(ge=1, le=20)] = 3
    health_recovered_after: Annotated[int, Field(ge=1, le=20)] = 1
    health_skips: Annotated[int, Field(ge=1, le=100)] = 3
    monthly_requests: MonthlyRequests = {}
    fresh_minutes: FreshMinutes = {}
    alert_urls: AlertUrls | None = None
    alert_routes: AlertRoutes | None = None
    alert_group_seconds: Annotated[float, Field(ge=0, le=3_600)] = 30
    alert_remind_hours: Annotated[float, Field(ge=0, le=24 * 366)] = 24
    alert_quiet_hours: QuietHoursText = ""
    public_url: Url | None = None
    metrics_token: HeaderSecret | None = None
    ping_urls: PingUrls | None = None
    ping_scheduler_url: PingUrl | None = None
    session_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    trusted_proxies: Proxies = Field(default_factory=_default_proxies)

    max_jobs: Annotated[int, Field(ge=1, le=1000)] = 10
    lease_seconds: Annotated[float, Field(ge=1, le=600)] = 15
    shutdown_grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 25
    clock_skew_seconds: Annotated[float, Field(ge=-86_400, le=86_400)] = 0
    log_format: Literal["json", "console"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="before")
    @classmethod
    def _stripped(cls, values: dict[str, Any]) -> dict[str, Any]:
        # A secret that is read from a file ends with a line break; what is blank is not set.
        stripped = {name: v.strip() if isinstance(v, str) else v for name, v in values.items()}
        return {name: value for name, value in stripped.items() if value != ""}

    @model_validator(mode="after")
    def _consistent_schedules(self) -> Self:
        faults: list[str] = []
        for prefix in ("scrape", "news", "stories"):
            cron, interval = f"{prefix}_schedule", f"{prefix}_interval_minutes"
            if self.model_fields_set >= {cron, interval}:
                faults.append(
                    f"{cron.upper()} and {interval.upper()} contradict each other: set one of them"
                )
            used = {f"{prefix}_{name}" for name in ("schedule", "exclude", "start", "end")}
            if f"{prefix}_timezone" in self.model_fields_set and not used & self.model_fields_set:
                faults.append(
                    f"{prefix.upper()}_TIMEZONE has no effect without"
                    f" {', '.join(sorted(name.upper() for name in used))}: set one of them"
                )
        if faults:
            raise ValueError("\n  ".join(faults))
        return self

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        pair = {"ASKNEWS_CLIENT_ID", "ASKNEWS_CLIENT_SECRET"}
        given = {name for name in pair if getattr(self, name.lower()) is not None}
        if self.asknews_api_key is None and len(given) == 1:
            (one,), (other,) = given, pair - given
            raise ValueError(f"{one} has no effect without {other}: set both, or ASKNEWS_API_KEY")
        return self

    def secrets(self, more: Iterable[SecretStr] = ()) -> frozenset[str]:
        """Return the texts to redact from output: secret settings, their items and parts.

        `more`: secrets that are no settings.
        """
        fields = [name for name in type(self).model_fields if name != "alert_routes"]
        values = [*(getattr(self, name) for name in fields), *more]
        whole = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        if self.alert_routes is not None:  # its patterns and severities are words like any other
            whole += [url for _, url in alert_routes.parse(self.alert_routes.get_secret_value())]
        items = [item for text in whole for item in re.split(r"[\s,]+", text)]
        parts = [part for item in items for part in _secret_parts(item)]
        return frozenset(text for text in (*whole, *items, *parts) if text)


def load(**overrides: Any) -> Config:
    """Read the environment and `.env`. Raises BadConfig with one line for each invalid setting."""
    try:
        return Config(**overrides)
    except ValidationError as error:
        raise BadConfig(_readable(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(_unreadable_file(error)) from None


def chosen_format() -> Literal["json", "console"]:
    """Return LOG_FORMAT also if other settings are invalid, or `.env` cannot be read."""
    try:
        chosen = secret("LOG_FORMAT")
    except BadConfig:
        return "console"
    return "json" if chosen is not None and chosen.get_secret_value() == "json" else "console"


def wants_colour() -> bool:
    """Return whether a terminal is to get colours: not with NO_COLOR, nor if TERM is `dumb`."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"  # noqa: TID251 - the one module that reads it


def secret(name: str) -> SecretStr | None:
    """Return one variable from the environment or `.env`, for recipes and jobs; None if not set."""
    value = os.environ.get(name)  # noqa: TID251 - the one module that reads it
    try:
        value = value or dotenv_values(".env").get(name)
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(_unreadable_file(error)) from None
    return SecretStr(value) if value else None


def where_to_set(name: str) -> str:
    """Return where this process would find a variable that recipes and jobs read, as advice."""
    return f"put {name}=… into {Path('.env').absolute()} or the environment"


def misspelt() -> list[tuple[str, str, str]]:
    """Return variables that resemble a setting's name: the name, where it is, and the setting."""
    known = {name.upper() for name in Config.model_fields}
    try:
        in_file = dotenv_values(".env")
    except (OSError, UnicodeDecodeError):
        in_file = {}
    places = [(name, "the environment") for name in os.environ]  # noqa: TID251 - as above
    found: list[tuple[str, str, str]] = []
    for name, where in [*places, *((name, ".env") for name in in_file)]:
        if name.upper() not in known:
            alike = difflib.get_close_matches(name.upper(), known, 1, LIKENESS)
            found += [(name, where, meant) for meant in alike]
    return found


def _unreadable_file(error: OSError | UnicodeDecodeError) -> str:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return f".env cannot be read ({reason}): let the user of this process read it, or remove it"


def _readable(error: ValidationError) -> str:
    lines = ["Invalid settings (see .env.example):"]
    for fault in error.errors(include_url=False, include_context=False):
        message = fault_sentence(fault)
        if not fault["loc"]:
            lines.append(f"  {message}")
            continue
        name = str(fault["loc"][0])
        lines.append(f"  {name.upper()} = {_shown(name, fault['input'])}: {message}")
    return "\n".join(lines)


def _shown(name: str, value: object) -> str:
    field = Config.model_fields.get(name)
    secret = field is None or "SecretStr" in str(field.annotation) or "@" in str(value)
    return "(hidden)" if secret else repr(value)
