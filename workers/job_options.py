"""The options of `@job`: what each takes, and the schedule, policies and retries that they say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from app.core.config import Config
from app.core.enums import Coalesce, Overlap
from app.core.messages import HostLimits
from app.ledger.edit import DeclaredSchedule
from app.runs.attempts import RetryPolicy
from app.scheduling.choices import PolicyChoices
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from workers.schedule_settings import calendar_reader, default_policies
from workers.source_group import SourceGroup

if TYPE_CHECKING:
    from sqlmodel import SQLModel

    from workers.job import Params

MAX_RETRIES = 20
DEFAULT_BACKOFF = 30.0  # seconds before the first retry; each further one waits twice as long

Schedules = Callable[[Config, str], Sequence[DeclaredSchedule]]
Seconds = float | timedelta
Member = TypeVar("Member", bound=StrEnum)


class JobOptions(TypedDict, total=False):
    """What `job` takes. Durations are seconds or a timedelta.

    `name`: the job's name; the function's if not given. `cron` with `timezone` (UTC), or `every`:
    when it is due; neither for a job that only runs by hand.
    `overlap` to `end`: the policies of its schedule, as in docs/jobs.md.
    `retries`, `backoff`: how often a failed run is repeated, and after how long: seconds before the
    first retry, doubled for each further one, or a sequence of seconds.
    `limits`: the rate of `run.client`, for each host. `tables`: SQLModel tables, created if absent.
    `secrets`: the variables of the environment or `.env` that `run.secret` returns.
    `group`: the sources that its runs collect. `schedules`: its schedules by the settings.
    `disabled_reason`: why the settings disable it, or None. `params`: the model of its parameters.
    """

    name: str
    cron: str
    every: Seconds
    timezone: str
    overlap: str
    coalesce: str
    catch_up: int
    misfire_grace: Seconds
    jitter: Seconds
    timeout: Seconds
    max_attempts: int
    exclude: Sequence[str]
    start: str
    end: str
    retries: int
    backoff: float | Sequence[float]
    limits: HostLimits
    tables: "Sequence[type[SQLModel]]"
    secrets: Sequence[str]
    group: SourceGroup
    schedules: Schedules
    disabled_reason: Callable[[Config], str | None]
    params: "type[Params]"


_POLICIES = (
    "overlap", "coalesce", "catch_up", "misfire_grace", "jitter", "max_attempts", "exclude",
    "start", "end",
)  # fmt: skip


_KINDS: Mapping[type, Sequence[str]] = {
    str: ("name", "cron", "timezone", "start", "end"),
    int: ("catch_up", "max_attempts", "retries"),
    Sequence: ("exclude", "tables", "secrets"),
    HostLimits: ("limits",),
}
_KIND_NAMES: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    Sequence: "a list",
    HostLimits: "HostLimits(rate=…, burst=…, concurrency=…)",
}


@dataclass(frozen=True, slots=True)
class Location:
    """Where something is declared: a file and a line."""

    file: str
    line: int

    def __str__(self) -> str:
        path, here = Path(self.file), Path.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{self.line}"


def check_kinds(options: JobOptions) -> None:
    for kind, keys in _KINDS.items():
        for key in keys:
            value: Any = options.get(key)
            wrong = not isinstance(value, kind) or (kind is Sequence and isinstance(value, str))
            if value is not None and wrong:
                raise ValueError(f"{key} = {value!r}; it takes {_KIND_NAMES[kind]}")
    for key, example in (("exclude", "2026-12-25"), ("secrets", "SHOP_KEY")):
        texts: Any = options.get(key) or ()
        if wrong := [one for one in texts if not isinstance(one, str)]:
            raise ValueError(f"{key} has {wrong[0]!r}; it takes texts, such as {example!r}")


def no_schedule(config: Config, name: str) -> Sequence[DeclaredSchedule]:
    del config, name
    return ()


def own_schedule(name: str, options: JobOptions, at: Location) -> Schedules:
    """The schedule that the options say; `no_schedule` if they say none."""
    cron, every, timezone = (options.get(key) for key in ("cron", "every", "timezone"))
    if cron is not None and every is not None:
        raise ValueError("cron and every contradict each other: leave one out")
    local = any(key in options for key in ("exclude", "start", "end"))
    if timezone is not None and cron is None and not (every is not None and local):
        raise ValueError("a timezone without cron or exclusions changes nothing: leave it out")
    if cron is None and every is None:
        if pointless := [key for key in _POLICIES if key in options]:
            raise ValueError(f"{pointless[0]} without cron or every changes nothing: leave it out")
        return no_schedule
    zone = str(timezone or "UTC")
    schedule = (
        Schedule.every(_seconds("every", every), name=name)
        if cron is None
        else Schedule.cron(str(cron), zone, name=name)
    )
    choices, read = _choices(options), calendar_reader(Path(at.file).parent)
    choices.apply(Policies(), schedule, zone, read)  # contradictions are found here

    def declared(config: Config, name: str) -> Sequence[DeclaredSchedule]:
        policies = choices.apply(default_policies(config), schedule, zone, read)
        return [DeclaredSchedule(name, name, schedule, policies)]

    return declared


def _choices(options: JobOptions) -> PolicyChoices:
    def optional(key: str) -> timedelta | None:
        value: Any = options.get(key)
        if value is None:
            return None
        try:
            return timedelta(seconds=_seconds(key, value))
        except OverflowError:
            raise ValueError(f"{key} = {value!r}; it takes at most some days") from None

    return PolicyChoices(
        overlap=_member(Overlap, "overlap", options),
        coalesce=_member(Coalesce, "coalesce", options),
        catch_up=options.get("catch_up"),
        misfire_grace=optional("misfire_grace"),
        jitter=optional("jitter"),
        timeout=timeout_of(options),
        max_attempts=options.get("max_attempts"),
        exclude=tuple(options.get("exclude", ())),
        start=options.get("start"),
        end=options.get("end"),
    )


def retry_policy(options: JobOptions) -> RetryPolicy | None:
    retries = options.get("retries", 0)
    backoff: Any = options.get("backoff", DEFAULT_BACKOFF)
    if not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"retries = {retries}; it takes 0 to {MAX_RETRIES}")
    if not retries:
        if "backoff" in options:
            raise ValueError("a backoff without retries changes nothing: add retries=3")
        return None
    if isinstance(backoff, int | float):
        delays = tuple(backoff * 2**number for number in range(retries))
    elif isinstance(backoff, Sequence) and backoff and not isinstance(backoff, str):
        waits = cast("Sequence[Any]", backoff)
        last = len(waits) - 1
        delays = tuple(_seconds("backoff", waits[min(number, last)]) for number in range(retries))
    else:
        raise ValueError(f"backoff = {backoff!r}; it takes seconds, or several: [10, 60]")
    if not all(0 < delay <= timedelta(days=1).total_seconds() for delay in delays):
        raise ValueError(f"backoff = {backoff}: each wait must be more than 0 s and at most a day")
    return RetryPolicy(delays)


def timeout_of(options: JobOptions) -> float | None:
    if "timeout" not in options:
        return None
    return Policies(timeout=_seconds("timeout", options["timeout"])).timeout


def tables_of(options: JobOptions) -> "tuple[type[SQLModel], ...]":
    tables = tuple(options.get("tables", ()))
    if wrong := [one for one in tables if not hasattr(one, "__table__")]:
        raise ValueError(
            f"tables = {wrong[0]!r}; it takes SQLModel tables: classes with table=True"
        )
    return tables


def _member(kind: type[Member], key: str, options: JobOptions) -> Member | None:
    value: Any = options.get(key)
    if value is not None and value not in [*kind]:
        raise ValueError(f"{key} = {value!r}; it takes {', '.join(kind)}")
    return None if value is None else kind(value)


def _seconds(key: str, value: object) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or isnan(seconds):
        raise ValueError(f"{key} = {value!r}; it takes seconds, or a timedelta")
    return float(seconds)
