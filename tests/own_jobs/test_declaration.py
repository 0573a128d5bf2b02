"""A job that cannot work is refused where it is declared, with file, line and the fix."""

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import typer
from pydantic import BaseModel
from sqlmodel import SQLModel

from app.cli import trigger
from app.core.config import Config
from app.core.enums import Overlap
from app.core.errors import BadJob, BadParameters
from app.jobs import HostLimits, Job, Run, job, source
from app.scheduling.schedule import Schedule
from app.web.dashboard import run_form
from app.web.http_error import PARAMETER
from scripts import run_request
from tests.configs import NO_POSTGRES, config_for
from workers import registry
from workers.job import code_of, location_of

if TYPE_CHECKING:
    from decimal import Decimal

CONFIG = config_for(NO_POSTGRES, "redis://127.0.0.1:1")
HERE = Path(__file__).name


async def prices(run: Run, *, region: str = "ng", pages: int = 1) -> None:
    """A job for the tests below."""
    del run, region, pages


async def wrong_default(run: Run, *, pages: int = "many") -> None:  # pyright: ignore[reportArgumentType]
    del run, pages


async def wrong_default_by_hand(run: Run, region: str, mode: Literal["a", "b"] = "c") -> None:  # pyright: ignore[reportArgumentType]
    del run, region, mode


async def taken(run: Run, *, model_config: int = 1) -> None:
    del run, model_config


async def hidden(run: Run, *, _region: str) -> None:
    del run, _region


async def untyped(run: Run, region="ng") -> None:  # pyright: ignore[reportMissingParameterType]
    del run, region


async def required(run: Run, region: str) -> None:
    del run, region


async def variadic(run: Run, *names: str) -> None:
    del run, names


async def oddly_named(
    run: Run, *, json: str = "j", schema: str = "s", run_id: str = "r", self: str = "m"
) -> None:
    del run, json, schema, run_id, self


class Untabled(SQLModel):
    """A model without a table."""

    sku: str


class Opaque:
    """A type that JSON cannot be."""


async def unreadable(run: Run, *, what: Opaque | None = None) -> None:
    del run, what


async def lost(run: Run, *, prices: Sequence["Decimal"] = ()) -> None:
    del run, prices


async def without_run() -> None:
    pass


async def other_first(region: str) -> None:
    del region


def not_async(run: Run) -> None:
    del run


def test_a_declared_job_has_its_schedule_its_policies_and_the_types_of_its_parameters() -> None:
    declared = job(
        cron="*/7 6-22 * * *", timezone="Africa/Lagos", overlap="queue_one", timeout=120, jitter=5
    )(prices)

    (schedule,) = declared.declared(CONFIG)
    assert (schedule.key, schedule.job) == ("prices", "prices")
    assert schedule.schedule == Schedule.cron("*/7 6-22 * * *", "Africa/Lagos", name="prices")
    assert schedule.policies.overlap is Overlap.QUEUE_ONE
    assert schedule.policies.timeout == 120
    assert schedule.policies.jitter == timedelta(seconds=5)
    assert declared.validate_params({"pages": "3"}).model_dump() == {"region": "ng", "pages": 3}
    with pytest.raises(BadParameters, match=r"prices: pages: .*\(known: region, pages\)"):
        declared.validate_params({"pages": "many"})


def test_the_exclusions_of_an_interval_are_in_its_timezone() -> None:
    declared = job(every=600, timezone="Africa/Lagos", exclude=["2026-10-01"])(prices)

    [schedule] = declared.declared(CONFIG)
    exclusions = schedule.policies.exclude.compiled()
    assert exclusions.cover(datetime(2026, 9, 30, 23, 30, tzinfo=UTC))
    assert not exclusions.cover(datetime(2026, 10, 1, 23, 30, tzinfo=UTC))


class Subset(StrEnum):
    LIST = "list"
    ALL = "all"


@job
async def listed(
    run: Run,
    *,
    mode: Literal["list", "detail"] = "list",
    subset: Subset = Subset.ALL,
    regions: Sequence[str] = (),
    days: list[int] | None = None,
    kinds: frozenset[Subset] = frozenset(),
) -> None:
    """What is a list shows in the type, not in a word of its name."""


WORDS = {"mode": "detail", "subset": "list", "regions": "ng, ke", "days": "1,2", "kinds": "list"}
READ = {
    "mode": "detail",
    "subset": "list",
    "regions": ["ng", "ke"],
    "days": [1, 2],
    "kinds": ["list"],
}


def test_only_what_is_a_list_is_split_at_commas_on_every_way_to_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(config: Config, name: str) -> Job:
        del config, name
        return listed

    monkeypatch.setattr(registry, "find_job", find)
    config = config_for(NO_POSTGRES, "redis://127.0.0.1:1")
    form = {f"{PARAMETER}{name}": text for name, text in WORDS.items()}
    options = [word for name, text in WORDS.items() for word in (f"--{name}", text)]

    given = [
        trigger.parse_params(listed, [f"{name}={text}" for name, text in WORDS.items()]),
        run_form.params_from(config, "listed", "listed", form),
        run_request.parse(["listed", *options], config).params,
    ]

    assert given == [READ] * 3


class Shop(BaseModel):
    """An object among parameters."""

    region: str
    pages: int = 1


@dataclass
class Range:
    """Another."""

    first: int


@job
async def composed(  # noqa: PLR0913 - one for each type
    run: Run,
    *,
    shop: Shop | None = None,
    pages: Range | None = None,
    names: dict[str, list[int]] | None = None,
    shops: list[Shop] = [],  # noqa: B006 - it is copied
    words: list[str] = [],  # noqa: B006
    text: str = "",
) -> None:
    """Parameters that are objects are written as JSON."""


def test_a_parameter_that_is_an_object_is_given_as_json() -> None:
    given = trigger.parse_params(
        composed,
        [
            'shop={"region": "ng"}', 'pages={"first": "3"}', 'names={"a": [1, 2]}',
            'shops=[{"region": "a,b"}]', "words=[a, b", "text={}",
        ],
    )  # fmt: skip

    assert given == {
        "shop": {"region": "ng"},
        "pages": {"first": 3},
        "names": {"a": [1, 2]},
        "shops": [{"region": "a,b"}],
        "words": ["[a", "b"],
        "text": "{}",
    }
    with pytest.raises(BadParameters, match="composed: shop: "):
        trigger.parse_params(composed, ["shop={ng}"])


async def defaulted(
    run: Run,
    *,
    subset: Subset = "list",  # pyright: ignore[reportArgumentType]
    pages: int = None,  # pyright: ignore[reportArgumentType]  # noqa: RUF013
) -> None:
    del run, subset, pages


def test_a_default_is_read_as_a_given_value_is_and_none_is_always_one() -> None:
    declared = job(every=60)(defaulted)

    params = declared.validate_params({})

    assert params.model_dump() == {"subset": Subset.LIST, "pages": None}
    assert isinstance(params.model_dump()["subset"], Subset)


@pytest.mark.parametrize("limits", [(0, 1, 1), (float("nan"), 1, 1), (1, 0, 1), (1, 1, 0)])
def test_limits_under_which_nothing_could_be_requested_are_refused(
    limits: tuple[float, int, int],
) -> None:
    with pytest.raises(ValueError, match="rate must be more than 0, burst and concurrency"):
        HostLimits(*limits)


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="'regions' is given twice; separate the values"):
        trigger.parse_params(listed, ["regions=ng", "regions=ke"])


def test_a_parameter_may_be_named_as_a_method_of_the_library_that_reads_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        declared = job(oddly_named)

    params = trigger.parse_params(declared, ["json=1", "schema=2", "run_id=3", "self=4"])

    assert params == {"json": "1", "schema": "2", "run_id": "3", "self": "4"}


def test_a_number_that_json_does_not_have_is_refused_before_it_is_stored() -> None:
    async def exact(run: Run, *, x: float = 0) -> None:
        del run, x

    with pytest.raises(BadParameters, match="a number that JSON does not have"):
        trigger.parse_params(job(exact), ["x=nan"])


def test_a_job_without_a_schedule_runs_by_hand_only() -> None:
    declared = job(required)

    assert isinstance(declared, Job)
    assert declared.declared(CONFIG) == []


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (untyped, {"every": 60}, "`region` has no type: write `region: str`"),
        (required, {"every": 60}, "`region` has no default, and a scheduled run is given none"),
        (variadic, {}, "has no name to be given by"),
        (wrong_default, {"every": 60}, "the default of the parameter `pages` is not of its type"),
        (wrong_default_by_hand, {}, "the default of the parameter `mode` is not of its type"),
        (taken, {}, "a parameter cannot be called `model_config`: rename it"),
        (hidden, {}, "the parameter `_region` cannot be given: begin with a letter"),
        (prices, {"every": 60, "exclude": [20]}, "exclude has 20; it takes texts"),
        (prices, {"every": 60, "misfire_grace": 1e300}, "misfire_grace = 1e+300; it takes at most"),
        (prices, {"every": 60, "max_attempts": "3"}, "max_attempts = '3'; it takes a whole number"),
        (prices, {"every": 60, "exclude": "sun"}, "exclude = 'sun'; it takes a list"),
        (prices, {"every": 60, "start": 5}, "start = 5; it takes a text"),
        (unreadable, {}, "its parameters cannot be read from JSON"),
        (without_run, {}, "takes a run: write `async def name(run: Run)`"),
        (other_first, {}, "write `run: Run`, or `ctx` for arq's own"),
        (not_async, {}, "write `async def`"),
        (lost, {}, "its parameters cannot be read from JSON: name 'Decimal' is not defined"),
        (prices, {"cron": "* * * * *", "every": 60}, "cron and every contradict each other"),
        (prices, {"cron": "61 * * * *"}, "61"),
        (prices, {"cron": "* * * * *", "timezone": "Africa/Logos"}, "Africa/Logos"),
        (prices, {"every": 60, "timezone": "UTC"}, "a timezone without cron"),
        (prices, {"timezone": "UTC", "exclude": ["sun"]}, "a timezone without cron"),
        (prices, {"overlap": "skip"}, "overlap without cron or every"),
        (prices, {"every": 60, "overlap": "maybe"}, "overlap = 'maybe'; it takes skip, queue_one"),
        (prices, {"every": 60, "coalesce": 1}, "coalesce = 1; it takes latest, all, none"),
        (prices, {"every": "5m"}, "every = '5m'; it takes seconds, or a timedelta"),
        (prices, {"every": 60, "timeout": "2m"}, "timeout = '2m'; it takes seconds"),
        (prices, {"every": 60, "misfire_grace": True}, "misfire_grace = True; it takes seconds"),
        (prices, {"timeout": -1}, "timeout -1.0 must be more than 0 seconds and at most 7 days"),
        (prices, {"timeout": float("nan")}, "timeout = nan; it takes seconds, or a timedelta"),
        (prices, {"every": 60, "retries": "3"}, "retries = '3'; it takes a whole number"),
        (prices, {"retries": 2, "backoff": "5s"}, "backoff = '5s'; it takes seconds, or several"),
        (prices, {"retries": 2, "backoff": []}, "backoff = []; it takes seconds, or several"),
        (prices, {"tables": ["prices"]}, "tables = 'prices'; it takes SQLModel tables"),
        (prices, {"tables": [Untabled]}, "it takes SQLModel tables: classes with table=True"),
        (prices, {"limits": 5}, "limits = 5; it takes HostLimits(rate=…, burst=…, concurrency=…)"),
        (prices, {"every": 60, "coalesce": "all"}, "choose overlap=queue_one or allow"),
        (prices, {"every": 60, "retries": 99}, "it takes 0 to 20"),
        (prices, {"every": 60, "backoff": 5}, "a backoff without retries"),
        (prices, {"every": 60, "retries": 2, "backoff": [5, -1]}, "more than 0 s"),
        (prices, {"name": "Prices of all"}, "cannot be a job's name"),
        (prices, {"evry": 60}, "@job takes no 'evry'; known:"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(
    function: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadJob) as refused:
        job(**options)(function)

    line = inspect.getsourcelines(function)[1]
    assert str(refused.value).startswith(f"tests/own_jobs/{HERE}:{line}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("function", [partial(prices, region="ke"), wraps(prices)(partial(prices))])
def test_a_partial_is_a_job_with_the_place_and_the_code_of_its_function(function: Any) -> None:
    declared = job(name="partial")(function)

    assert declared.defined_at == location_of(prices)
    assert code_of(declared.function) is prices.__code__


@pytest.mark.parametrize("function", [job(prices), Opaque()])
def test_an_object_that_is_no_function_is_refused_for_that(function: Any) -> None:
    with pytest.raises(BadJob, match="write `async def`"):
        job(function)


class Bare:
    """A source that lacks everything."""


class Named(Bare):
    """A source without limits."""

    name = "named"

    def partitions(self) -> None: ...
    def pages(self, part: object) -> None: ...
    def parse(self, raw: object) -> None: ...


class Needy(Named):
    """A source whose parameter has no default."""

    limits = HostLimits(rate=1, burst=1, concurrency=1)

    def __init__(self, region: str) -> None:
        self.region = region


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Bare, "has no method `partitions`"),
        (Named, "has no limits"),
        (Needy, "the parameter `region` has no default"),
    ],
)
def test_a_source_that_cannot_work_is_refused_with_its_place(kind: type, message: str) -> None:
    with pytest.raises(BadJob, match=rf"{HERE}:\d+: .*{message}"):
        source(every=60)(kind)
