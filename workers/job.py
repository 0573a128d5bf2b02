"""The declaration of a job: the decorator `job`, and the parameters of its function."""

import inspect
import json
import re
import warnings
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any, Optional, Unpack, get_args, get_origin, overload

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from app.core.config import Config
from app.core.errors import BadJob, BadParameters, BadSchedule
from app.core.messages import HostLimits
from app.core.printable import UNSTORABLE, is_storable
from app.core.validation import fault_sentence
from app.ledger.edit import DeclaredSchedule
from app.runs.attempts import RetryPolicy
from workers.job_options import (
    JobOptions,
    Location,
    Schedules,
    check_kinds,
    no_schedule,
    own_schedule,
    retry_policy,
    tables_of,
    timeout_of,
)
from workers.run import Run
from workers.source_group import SourceGroup

if TYPE_CHECKING:
    from sqlmodel import SQLModel

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,59}")
DEFAULT_LIMITS = HostLimits(rate=2, burst=4, concurrency=4)  # of `run.client`, for each host

Function = Callable[..., Awaitable[Any]]

# The jobs that a file declares while it is imported, also those that no name of it keeps.
declared_meanwhile: ContextVar["list[Job] | None"] = ContextVar("declared_meanwhile", default=None)


class Params(BaseModel):
    """Parameters of a run. Unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _always_on(config: Config) -> str | None:
    del config
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """A job: what a run of it executes, when it is due, and with which parameters.

    Calling it calls its function. `takes_ctx`: the function takes arq's `ctx`, not a Run.
    `schedules`: its schedules by the settings. `timeout`: seconds per attempt of a job without a
    schedule. `group`: the sources that its runs collect, if it collects any. `secrets`: the
    variables of the environment or `.env` that its runs may read.
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
    secrets: tuple[str, ...] = ()
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

    def by_name(self, positional: Sequence[Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of an arq job, whose positional arguments are named by the function's.

        One that has no name is kept under its number, which `validate_params` refuses.
        """
        _, *own = inspect.signature(self.function).parameters.values()
        names = [one.name for one in own if one.kind is one.POSITIONAL_OR_KEYWORD]
        named = dict(params)
        for number, value in enumerate(positional):
            name = names[number] if number < len(names) else ""
            known = name and name not in named
            named[name if known else f"argument {number + 1}"] = value
        return named

    def json_params(self, params: dict[str, Any]) -> dict[str, Any]:
        """The validated parameters that are given, as JSON values. Raises BadParameters."""
        given = self.validate_params(params).model_dump(mode="json", exclude_unset=True)
        if not is_storable(given):
            raise BadParameters(f"{self.name}: a parameter has {UNSTORABLE}: it cannot be stored")
        return given

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
        declared = _declare(function, options, at)
    except (BadSchedule, ValueError, TypeError) as error:
        raise BadJob(f"{at}: {error}") from None
    kept = declared_meanwhile.get()
    if kept is not None:
        kept.append(declared)
    return declared


def code_of(declared: Any) -> CodeType | None:
    """The code of a function beneath its decorators and partials, or None: of a class."""
    declared = inspect.unwrap(declared)
    while isinstance(declared, partial):
        declared = inspect.unwrap(declared.func)
    return getattr(declared, "__code__", None)


def location_of(declared: Any) -> Location:
    """Where a function or a class is declared."""
    code = code_of(declared)
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
    check_kinds(options)
    params, takes_ctx = _params_of(function)
    name = options.get("name", getattr(function, "__name__", ""))
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a job's name: 1 to 60 of a-z, 0-9, `_`, `-` and `.`, a letter"
            " first; pass name=…"
        )
    schedules = options.get("schedules") or own_schedule(name, options, at)
    _check_defaults(params, has_schedule=schedules is not no_schedule)
    return Job(
        name=name,
        function=function,
        params=options.get("params", params),
        schedules=schedules,
        defined_at=at,
        takes_ctx=takes_ctx,
        retry=retry_policy(options),
        timeout=timeout_of(options),
        limits=options.get("limits", DEFAULT_LIMITS),
        tables=tables_of(options),
        secrets=tuple(options.get("secrets", ())),
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
        if one.name.startswith("model_") and hasattr(BaseModel, one.name):
            raise ValueError(f"a parameter cannot be called `{one.name}`: rename it")
        if one.name.startswith("_") and one.default is one.empty:
            raise ValueError(f"the parameter `{one.name}` cannot be given: begin with a letter")
        if one.annotation is one.empty:
            raise ValueError(f"the parameter `{one.name}` has no type: write `{one.name}: str`")
        kind = one.annotation if one.default is not None else Optional[one.annotation]  # noqa: UP045 - it may be a text
        fields[one.name] = (kind, ... if one.default is one.empty else one.default)
    try:
        with warnings.catch_warnings():
            # A parameter may have the name of a method of pydantic's, such as `json` or `schema`.
            warnings.simplefilter("ignore", UserWarning)
            model = create_model(name, __base__=Params, **fields)
            model.model_rebuild()  # else a type within another that is not found is, at each run
            return model
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


def from_text(annotation: Any, text: str) -> Any:
    """What a text that a person gives is for a parameter of this type.

    An object is written as JSON, and a list as JSON or with commas; other types are left as texts.
    """
    is_list = takes_list(annotation)
    if text.lstrip().startswith(("{", "[")) and (is_list or _takes_object(annotation)):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return [part.strip() for part in text.split(",") if part.strip()] if is_list else text


def _takes_object(annotation: Any) -> bool:
    return any(
        "__dataclass_fields__" in vars(kind) or issubclass(kind, Mapping | BaseModel)
        for kind in parameter_types(annotation)
    )


def takes_list(annotation: Any) -> bool:
    """Whether a parameter of this type is a list, which people give with commas."""
    return any(
        issubclass(kind, Collection) and not issubclass(kind, str | bytes | Mapping)
        for kind in parameter_types(annotation)
    )


def _check_defaults(params: type[Params], *, has_schedule: bool) -> None:
    try:
        params.model_validate({})
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            name = fault["loc"][0]
            if fault["type"] != "missing":
                raise ValueError(
                    f"the default of the parameter `{name}` is not of its type:"
                    f" {fault_sentence(fault)}"
                ) from None
            if has_schedule:
                raise ValueError(
                    f"the parameter `{name}` has no default, and a scheduled run is given none:"
                    " give it one, or leave cron and every out"
                ) from None
