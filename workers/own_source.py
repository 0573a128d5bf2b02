"""The decorator `source`: declares a class with the source contract as a job that collects it."""

import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from app.core.config import Config
from app.core.errors import BadJob
from app.core.messages import HostLimits
from app.core.records import Item, Record
from app.sources.base import Source
from app.sources.expectations import NO_EXPECTATIONS, Expectations
from app.store.content import items
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from workers.discovery import JOB_OF_CLASS
from workers.job import declare_job, location_of, params_model
from workers.job_options import JobOptions
from workers.run import Run
from workers.source_group import SourceGroup

if TYPE_CHECKING:
    from sqlmodel import SQLModel

    from app.store.own_tables import TableWriter

CONTRACT = ("partitions", "pages", "parse")

Class = TypeVar("Class", bound=type)


class SourceOptions(JobOptions, total=False):
    """What `source` takes: what `job` takes, and where the records go.

    `table`: a SQLModel table, of which `parse` yields rows; items if not given, of which it yields
    Item. `expect`: what is expected of the source. `never_empty`: no records at all are a failure.
    """

    table: "type[SQLModel]"
    expect: Expectations
    never_empty: bool


def source(**options: Any) -> Callable[[Class], Class]:
    """Declare a class as a source with a job of its own; see SourceOptions.

    The class has `name`, `limits` and the methods `partitions`, `pages` and `parse`. The
    parameters of its constructor are those of a run, each with a type and a default. Its attribute
    `secrets` has the secrets that it declares, by name. Raises BadJob, which names file and line.
    """

    def declare(kind: Class) -> Class:
        at = location_of(kind)
        try:
            group = _group(kind, cast("SourceOptions", options))
            job_options = cast("JobOptions", _job_options(kind, options, group))
        except (ValueError, TypeError) as error:
            raise BadJob(f"{at}: {error}") from None

        async def collect(run: Run, **params: Any) -> None:
            collected = kind(**params)
            if names := options.get("secrets"):
                collected.secrets = {name: run.secret(name) for name in names}
            await run.collect([collected])

        collect.__signature__ = _signature(kind)  # read by inspect
        collect.__module__ = kind.__module__
        setattr(kind, JOB_OF_CLASS, declare_job(collect, job_options, at))
        return kind

    return declare


def _job_options(
    kind: type[Any], options: dict[str, Any], group: "OwnSourceGroup"
) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name in JobOptions.__annotations__}
    if unknown := sorted(set(options) - set(SourceOptions.__annotations__) - set(kept)):
        raise ValueError(f"@source takes no {unknown[0]!r}")
    tables = (*options.get("tables", ()), *([options["table"]] if "table" in options else []))
    return {"name": kind.name} | kept | {"group": group, "tables": tables}


def _group(kind: type[Any], options: SourceOptions) -> "OwnSourceGroup":
    if missing := [name for name in CONTRACT if not callable(getattr(kind, name, None))]:
        raise ValueError(f"{kind.__name__} has no method `{missing[0]}`: a source needs it")
    if not isinstance(getattr(kind, "name", None), str):
        raise TypeError(f'{kind.__name__} has no name: write `name = "…"`')
    if not isinstance(getattr(kind, "limits", None), HostLimits):
        raise TypeError(
            f"{kind.__name__} has no limits: write"
            " `limits = HostLimits(rate=1, burst=2, concurrency=1)`"
        )
    required = [
        one.name
        for one in _signature(kind).parameters.values()
        if one.default is one.empty and one.name != "run"
    ]
    if required:
        raise ValueError(f"the parameter `{required[0]}` has no default: give it one")
    params_model(kind.__name__, [*_signature(kind).parameters.values()][1:])
    return OwnSourceGroup(kind, options)


def _signature(kind: type[Any]) -> inspect.Signature:
    """The signature of a job with the parameters of the class's constructor."""
    parameters = (
        []
        if kind.__init__ is object.__init__
        else list(inspect.signature(kind, eval_str=True).parameters.values())
    )
    parameters = [one for one in parameters if one.name not in ("name", "limits")]
    run = inspect.Parameter("run", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Run)
    return inspect.Signature([run, *(one.replace(kind=one.KEYWORD_ONLY) for one in parameters)])


class OwnSourceGroup(SourceGroup):
    """One source of an own class: its records go to its table, or are items."""

    def __init__(self, kind: type[Any], options: SourceOptions) -> None:
        self._kind = kind
        self._expected = options.get("expect", NO_EXPECTATIONS)
        self.never_empty = options.get("never_empty", False)
        self._writer: TableWriter | None = None
        if table := options.get("table"):
            from app.store import own_tables  # noqa: PLC0415 - only a table loads SQLAlchemy

            self._writer = own_tables.TableWriter(table)

    def every_source(self, config: Config) -> Sequence[Source]:
        """The source, with its default parameters."""
        del config
        return (self._kind(),)

    def record_key(self, record: Record) -> str:
        """The item's key, or the row's primary key as text."""
        if self._writer is not None:
            return self._writer.key(record)
        return record.key if isinstance(record, Item) else ""

    async def write(
        self, connection: Connection, records: Sequence[Any], now: datetime, run_id: UUID
    ) -> WriteCounts:
        """Store a page of rows or items; what is as it was is not written."""
        if self._writer is not None:
            return await self._writer.write(connection, records)
        return await items.write(connection, None, self._kind.name, records, now, run_id)

    def expectations(self, source: Source) -> Expectations:
        """As the class was declared."""
        del source
        return self._expected
