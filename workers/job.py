"""The declaration of a job: the decorator `job`, its parameters, schedule, policies and retries."""

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    TypedDict,
    Unpack,
    cast,
    get_args,
    get_origin,
    overload,
)

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from app.core.config import Config
from app.core.enums import Coalesce, Overlap
from app.core.errors import BadJob, BadParameters, BadSchedule
from app.core.messages import HostLimits
from app.core.validation import fault_sentence
from app.ledger.edit import DeclaredSchedule
from app.runs.attempts import RetryPolicy
from app.scheduling.choices import PolicyChoices
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from workers.run import Run
from workers.schedule_settings import calendar_reader, default_policies
from workers.source_group import SourceGroup

if TYPE_CHECKING:
    from sqlmodel import SQLModel

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,59}")
TAKEN = frozenset({"ctx", "run_id"})  # parameters of the arq function itself
MAX_RETRIES = 20
DEFAULT_BACKOFF = 30.0  # seconds before the first retry; each further one waits twice as long
DEFAULT_LIMITS = HostLimits(rate=2, burst=4, concurrency=4)  # of `run.client`, for each host

Function = Callable[..., Awaitable[Any]]
Schedules = Callable[[Config, str], Sequence[DeclaredSchedule]]
Seconds = float | timedelta


class Params(BaseModel):
    """Parameters of a run. Unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JobOptions(TypedDict, total=False):
    """What `job` takes. Durations are seconds or a timedelta.

    `name`: the job's name; the function's if not given. `cron` with `timezone` (UTC), or `every`:
    when it is due; neither for a job that only runs by hand.
    `overlap` to `end`: the policies of its schedule, as in docs/jobs.md.
    `retries`, `backoff`: how often a failed run is repeated, and after how long: seconds before the
    first retry, doubled for each further one, or a sequence of seconds.
    `limits`: the rate of `run.client`, for each host. `tables`: SQLModel tables, created if absent.
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
    group: SourceGroup
    schedules: Schedules
    disabled_reason: Callable[[Config], str | None]
    params: type[Params]


_POLICIES = (
    "overlap", "coalesce", "catch_up", "misfire_grace", "jitter", "max_attempts", "exclude",
    "start", "end",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Location:
    """Where something is declared: a file and a line."""

    file: str
    line: int

    def __str__(self) -> str:
        path, here = Path(self.file), Path.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{self.line}"


def _always_on(config: Config) -> str | None:
    del config
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """A job: what a run of it executes, when it is due, and with which parameters.

    Calling it calls its function. `takes_ctx`: the function takes arq's `ctx`, not a Run.
    `schedules`: its schedules by the settings. `timeout`: seconds per attempt of a job without a
    schedule. `group`: the sources that its runs collect, if it collects any.
    """

    name: str
    function: Function
    params: type[Params]
    schedules: Schedules
    defined_at: Location
    takes_ctx: bool = False
    retry: RetryPolicy | None = None
    timeout: float | None = None
    limits: HostLimits = DEFAULT_LIMITS
    tables: "tuple[type[SQLModel], ...]" = ()
    group: SourceGroup | None = None
    disabled_reason: Callable[[Config], str | None] = _always_on

    def __call__(self, *args: Any, **params: Any) -> Awaitable[Any]:
        return self.function(*args, **params)

    def declared(self, config: Config) -> list[DeclaredSchedule]:
        """The job's schedules. Raises BadConfig or BadSchedule if they are inconsistent."""
        enabled = self.disabled_reason(config) is None
        declared = self.schedules(config, self.name)
        return [replace(one, enabled=one.enabled and enabled) for one in declared]

    async def execute(self, run: Run) -> object:
        """Call the function with the run's parameters. Raises BadParameters, and what it raises."""
        params = self.validate_params(run.params)
        values = {name: getattr(params, name) for name in type(params).model_fields}
        return await self.function(run.arq_ctx() if self.takes_ctx else run, **values)

    def json_params(self, params: dict[str, Any]) -> dict[str, Any]:
        """The validated parameters that are given, as JSON values. Raises BadParameters."""
        return self.validate_params(params).model_dump(mode="json", exclude_unset=True)

    def validate_params(self, params: dict[str, Any]) -> Params:
        """The validated parameters of a run. Raises BadParameters, which lists each fault."""
        try:
            return self.params.model_validate(params)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'parameters'}: {fault_sentence(fault)}"
                for fault in error.errors(include_url=False)
            )
            known = ", ".join(self.params.model_fields) or "none"
            raise BadParameters(f"{self.name}: {faults} (known: {known})") from None


@overload
def job(function: Function, /) -> Job: ...
@overload
def job(**options: Unpack[JobOptions]) -> Callable[[Function], Job]: ...
def job(
    function: Function | None = None, /, **options: Unpack[JobOptions]
) -> Job | Callable[[Function], Job]:
    """Declare a coroutine function as a job; see JobOptions.

    The function takes a Run, or arq's `ctx`, and then its parameters, each with a type. Raises
    BadJob, which names file and line, if it or the options cannot work.
    """

    def declare(function: Function) -> Job:
        return declare_job(function, options)

    return declare if function is None else declare(function)


def declare_job(function: Function, options: JobOptions, at: Location | None = None) -> Job:
    """The job of that function and these options. `at`: where it is declared."""
    at = at or location_of(function)
    try:
        return _declare(function, options, at)
    except (BadSchedule, ValueError, TypeError) as error:
        raise BadJob(f"{at}: {error}") from None


def location_of(declared: Any) -> Location:
    """Where a function or a class is declared."""
    code = getattr(declared, "__code__", None)
    if code is not None:
        return Location(code.co_filename, code.co_firstlineno)
    try:
        return Location(inspect.getfile(declared), inspect.getsourcelines(declared)[1])
    except (OSError, TypeError):
        return Location("(unknown file)", 0)


def _declare(function: Function, options: JobOptions, at: Location) -> Job:
    if unknown := sorted(set(options) - set(JobOptions.__annotations__)):
        known = ", ".join(sorted(JobOptions.__annotations__))
        raise ValueError(f"@job takes no {unknown[0]!r}; known: {known}")
    name = options.get("name", getattr(function, "__name__", ""))
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a job's name: 1 to 60 of a-z, 0-9, `_`, `-` and `.`, a letter"
            " first; pass name=…"
        )
    params, takes_ctx = _params_of(function)
    schedules = options.get("schedules") or _own_schedule(name, options, at)
    if schedules is not _no_schedule and "schedules" not in options:
        _check_defaults(params)
    return Job(
        name=name,
        function=function,
        params=options.get("params", params),
        schedules=schedules,
        defined_at=at,
        takes_ctx=takes_ctx,
        retry=_retry_policy(options),
        timeout=_seconds(options["timeout"]) if "timeout" in options else None,
        limits=options.get("limits", DEFAULT_LIMITS),
        tables=tuple(options.get("tables", ())),
        group=options.get("group"),
        disabled_reason=options.get("disabled_reason", _always_on),
    )


def _params_of(function: Function) -> tuple[type[Params], bool]:
    """The model of a function's parameters, and whether it takes arq's `ctx`."""
    if not inspect.iscoroutinefunction(function):
        raise ValueError("a job is a coroutine function: write `async def`")
    try:
        first, *others = inspect.signature(function, eval_str=True).parameters.values()
    except ValueError:
        raise ValueError("a job takes a run: write `async def name(run: Run)`") from None
    except NameError as error:
        raise ValueError(
            f"a type cannot be found: {error}; import it outside TYPE_CHECKING"
        ) from None
    takes_run = first.annotation is Run or first.name == "run"
    if not takes_run and first.name != "ctx":
        raise ValueError(
            f"the first parameter is `{first}`: write `run: Run`, or `ctx` for arq's own"
        )
    return params_model(getattr(function, "__name__", "job"), others), not takes_run


def params_model(name: str, parameters: Sequence[inspect.Parameter]) -> type[Params]:
    """The model of these parameters. Raises ValueError if one has no type, or cannot be read."""
    fields: dict[str, Any] = {}
    for one in parameters:
        if one.kind not in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD):
            raise ValueError(f"the parameter `{one}` has no name to be given by: write it out")
        if one.name in TAKEN:
            raise ValueError(f"the parameter `{one.name}` is taken: rename it")
        if one.annotation is one.empty:
            raise ValueError(f"the parameter `{one.name}` has no type: write `{one.name}: str`")
        fields[one.name] = (one.annotation, ... if one.default is one.empty else one.default)
    try:
        return create_model(name, __base__=Params, **fields)
    except (PydanticUserError, NameError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"its parameters cannot be read from JSON: {first}") from None


def parameter_types(annotation: Any) -> list[type]:
    """Every class that an annotation names, also inside of unions, tuples and `Annotated`."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and origin is None:
        return [annotation]
    found: list[type] = [origin] if isinstance(origin, type) else []
    for argument in get_args(annotation):
        found += parameter_types(argument)
    return [kind for kind in found if kind is not type(None)]


def takes_list(annotation: Any) -> bool:
    """Whether a parameter of this type is a list, which people give with commas."""
    return any(
        issubclass(kind, Collection) and not issubclass(kind, str | bytes | Mapping)
        for kind in parameter_types(annotation)
    )


def _check_defaults(params: type[Params]) -> None:
    for name, field in params.model_fields.items():
        if field.is_required():
            raise ValueError(
                f"the parameter `{name}` has no default, and a scheduled run is given none:"
                " give it one, or leave cron and every out"
            )


def _no_schedule(config: Config, name: str) -> Sequence[DeclaredSchedule]:
    del config, name
    return ()


def _own_schedule(name: str, options: JobOptions, at: Location) -> Schedules:
    """The schedule that the options say; `_no_schedule` if they say none."""
    cron, every, timezone = (options.get(key) for key in ("cron", "every", "timezone"))
    if cron is not None and every is not None:
        raise ValueError("cron and every contradict each other: leave one out")
    local = any(key in options for key in ("exclude", "start", "end"))
    if timezone is not None and cron is None and not (every is not None and local):
        raise ValueError("a timezone without cron or exclusions changes nothing: leave it out")
    if cron is None and every is None:
        if pointless := [key for key in _POLICIES if key in options]:
            raise ValueError(f"{pointless[0]} without cron or every changes nothing: leave it out")
        return _no_schedule
    zone = str(timezone or "UTC")
    schedule = (
        Schedule.every(_seconds(cast("Seconds", every)), name=name)
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
        return None if value is None else timedelta(seconds=_seconds(value))

    return PolicyChoices(
        overlap=Overlap(options["overlap"]) if "overlap" in options else None,
        coalesce=Coalesce(options["coalesce"]) if "coalesce" in options else None,
        catch_up=options.get("catch_up"),
        misfire_grace=optional("misfire_grace"),
        jitter=optional("jitter"),
        timeout=_seconds(options["timeout"]) if "timeout" in options else None,
        max_attempts=options.get("max_attempts"),
        exclude=tuple(options.get("exclude", ())),
        start=options.get("start"),
        end=options.get("end"),
    )


def _retry_policy(options: JobOptions) -> RetryPolicy | None:
    retries, backoff = options.get("retries", 0), options.get("backoff", DEFAULT_BACKOFF)
    if not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"retries = {retries}; it takes 0 to {MAX_RETRIES}")
    if not retries:
        if "backoff" in options:
            raise ValueError("a backoff without retries changes nothing: add retries=3")
        return None
    if isinstance(backoff, int | float):
        delays = tuple(backoff * 2**number for number in range(retries))
    else:
        last = len(backoff) - 1
        delays = tuple(backoff[min(number, last)] for number in range(retries))
    if not all(0 < delay <= timedelta(days=1).total_seconds() for delay in delays):
        raise ValueError(f"backoff = {backoff}: each wait must be more than 0 s and at most a day")
    return RetryPolicy(delays)


def _seconds(value: Seconds) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
