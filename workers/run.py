"""A run as its job sees it: its tick, its HTTP client, its database session, its progress."""

import inspect
import json
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import aiohttp
import httpx
import msgspec
import structlog
from arq import Retry
from arq.connections import ArqRedis
from asyncpg import DataError, ProgramLimitExceededError

from app.context import WorkerContext, worker_context
from app.core import config, log
from app.core.config import Config
from app.core.enums import RunStatus
from app.core.errors import Auth, BadJob, BadResult, HttpStatus, LeaseLost, RunDeferred
from app.core.printable import UNSTORABLE, is_storable
from app.core.records import Item
from app.core.tasks import gather_fail_fast
from app.core.version import user_agent
from app.fetch.client import RequestCounts
from app.fetch.limited_transport import JobClient, LimitedTransport
from app.fetch.transport_errors import to_failure
from app.fetch.urls import public_url
from app.runs import attempts
from app.runs.attempts import MAX_MESSAGE_LENGTH, AttemptOutcome
from app.sources.base import Source
from app.store import tenancy
from app.store.content import items
from app.store.content.write_counts import WriteCounts
from app.store.db import CONNECTION_LOST, outwait_locks
from app.store.runs import progress
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.progress import SourceProgress
from app.store.shared_pool import taking_connections
from workers import expectations
from workers.budget import CollectionBudget
from workers.collect import Collector
from workers.failures import root_failure_kind
from workers.source_group import PlannedSource, SourceGroup, run_totals

if TYPE_CHECKING:
    from sqlmodel.ext.asyncio.session import AsyncSession

    from workers.job import Job

PROGRESS_SECONDS = 0.5  # seconds between two writes of the progress
MAX_STATS_BYTES = 64_000
MAX_SHOWN_FAILURES = 5
MAX_LOGGED_FAILURES = 200  # as many lines as the log of a run keeps
MAX_KEY_LENGTH = 2_000  # characters that an index of Postgres holds in any case
WRITTEN = ("inserted", "changed", "unchanged")
CLIENT_TIMEOUT = httpx.Timeout(20, connect=5, pool=None)
# What arq's own ctx has that is handed on to functions that take a `ctx`.
ARQ_NAMES = ("job_id", "job_try", "enqueue_time", "score")


class Run:
    """One attempt of a run, as its job sees it."""

    def __init__(
        self, ctx: dict[str, Any], job: "Job", claimed: ClaimedRun, outcome: AttemptOutcome
    ) -> None:
        self.context: WorkerContext = worker_context(ctx)
        """The worker's connections; for built-in jobs."""
        self.claimed = claimed
        """The run's row, with the epoch of this attempt."""
        self.outcome = outcome
        """How the attempt ends; for built-in jobs."""
        self._ctx = ctx
        self._job = job
        self._stack = AsyncExitStack()
        self._ended = False
        self._tally = RequestCounts()
        self._progress: dict[str, float] = {}
        self._written_at = float("-inf")
        self._failures: dict[str, str] = {}
        self._parts: list[PlannedSource] = []  # all that were collected, and their rows
        self._rows: dict[str, SourceProgress] = {}
        self._late: dict[str, tuple[datetime, str]] = {}

    @property
    def id(self) -> UUID:
        """The run's id, `execution_id` in logs and tables."""
        return self.claimed.run_id

    @property
    def job(self) -> str:
        """The name of its job."""
        return self._job.name

    @property
    def params(self) -> dict[str, Any]:
        """The parameters it was asked for with, as JSON; empty for a scheduled run."""
        return self.claimed.params

    @property
    def tick(self) -> datetime | None:
        """The instant for which it runs, UTC; None if it was asked for by hand."""
        return self.claimed.scheduled_for

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """From the tick before its own to its own, UTC; None without a tick.

        The windows of consecutive ticks meet, so that what each of them covers adds up.
        """
        tick = self.tick
        key = self.claimed.schedule_key
        if tick is None:
            return None
        schedules = self._job.declared(self.context.config)
        before = next((one.schedule.previous(tick) for one in schedules if one.key == key), None)
        return None if before is None else (before, tick)

    @property
    def now(self) -> datetime:
        """The present instant by the database's clock, UTC."""
        return self.context.clock()

    @property
    def trigger(self) -> str:
        """What created the run: `scheduled`, `manual`, `backfill`."""
        return self.claimed.trigger

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.claimed.attempt

    @property
    def config(self) -> Config:
        """The settings."""
        return self.context.config

    def secret(self, name: str) -> str:
        """The variable of the environment or `.env`, as it was when the worker started.

        Raises BadJob if the job does not declare it with `secrets`, and Auth if it is not set.
        """
        if name not in self._job.secrets:
            at = self._job.defined_at
            raise BadJob(f"{at}: run.secret({name!r}): declare it: secrets=[{name!r}]")
        value = self.context.job_secrets.get(name)
        if value is None:
            raise Auth(unset_secret(name, self.job))
        return value.get_secret_value()

    @property
    def redis(self) -> ArqRedis:
        """A Redis client that the jobs of the worker share."""
        return self.context.job_redis

    @cached_property
    def log(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines name the run; they are shown on its page."""
        return log.logger(f"job.{self._job.name}")

    @cached_property
    def client(self) -> httpx.AsyncClient:
        """An HTTP client whose connections the worker pools, behind the shared rate limiter.

        A request waits until its host may be requested. Raises a Failure with `retry_in` if that
        would take more than 30 seconds, and httpx.ReadTimeout or TooLarge for a response without
        end, unless it is streamed.
        """
        transport = LimitedTransport(
            self.context.job_transport, self.context.limiter, self._job.limits, self._tally
        )
        client = JobClient(
            transport=transport,
            headers={"user-agent": user_agent(self.config.contact)},
            timeout=CLIENT_TIMEOUT,
            trust_env=False,
        )
        self._stack.push_async_callback(client.aclose)
        return client

    @cached_property
    def session(self) -> "AsyncSession":
        """A SQLModel session, of one task at a time.

        Each commit checks that this attempt still holds the run, and raises LeaseLost if not. What
        is not committed when the job returns is committed then; if it raises, it is rolled back.
        Raises LeaseLost, or SQLAlchemy's InvalidRequestError, after the run has ended.
        """
        if self._ended:  # nothing would close it
            raise LeaseLost(self.id, "has ended")
        return self.context.engine.session(self.claimed)

    def arq_ctx(self) -> dict[str, Any]:
        """What arq hands to a function, with `run` and the HTTP clients."""
        kept = {name: self._ctx[name] for name in ARQ_NAMES if name in self._ctx}
        clients = {"client": self.client, "clients": self.context.clients}
        return {"job_try": self.attempt, **kept, "redis": self.redis, **clients, "run": self}

    async def progress(self, done: float, of: float | None = None, **counts: float) -> None:
        """Show how far the run is, in the CLI and on its page. Raises LeaseLost.

        It is written at most twice a second. `counts`: other numbers to show, by name.
        """
        given = {"done": done, **({} if of is None else {"of": of}), **counts}
        self._progress |= _storable(given, "run.progress was given")
        now = time.monotonic()
        if now - self._written_at >= PROGRESS_SECONDS or done == of:
            self._written_at = now
            step = partial(progress.merge_stats, self.context.pool, self.claimed, self._progress)
            await outwait_locks(step)

    async def still_mine(self) -> bool:
        """Whether this attempt still holds the run: nothing else may write for it then."""
        return await outwait_locks(partial(progress.holds, self.context.pool, self.claimed))

    def defer(
        self, until: datetime | timedelta | float, reason: BaseException | str = ""
    ) -> RunDeferred:
        """Postpone the run: `raise run.defer(until)`. An instant, or seconds from now.

        It fails instead if that is after the schedule's next tick, or the fourth time.
        """
        if not isinstance(until, datetime):
            delay = until if isinstance(until, timedelta) else timedelta(seconds=until)
            until = self.context.clock() + delay
        if until.tzinfo is None:
            raise BadResult(f"run.defer: {until} has no zone, which run.now has")
        text = attempts.text_of(reason)[:MAX_MESSAGE_LENGTH]
        return RunDeferred(until, text or "the job asked for it")

    def part_failed(self, part: str, error: BaseException | str) -> None:
        """Record that a part of the run failed: the run ends as a partial failure."""
        text = attempts.text_of(error)[:MAX_MESSAGE_LENGTH]
        self._failures[part] = text
        if len(self._failures) <= MAX_LOGGED_FAILURES:
            self.log.warning("part.failed", part=part, error=text)

    async def store(
        self, source: str, rows: Iterable[Mapping[str, Any]], *, key: str | Callable[[Any], str]
    ) -> WriteCounts:
        """Store rows as items of `source`, in one transaction under the run's lease.

        `key`: the member that identifies a row, or a function of the row. A row that is as it was
        is not written. Returns the counts, which are added to the run's stats. Raises LeaseLost,
        and BadResult, which names the row and its member, for what cannot be stored.
        """
        page = [_item(source, row, key) for row in rows]
        try:
            written, counts = await outwait_locks(partial(self._store_once, source, page))
        except (UnicodeEncodeError, DataError, ProgramLimitExceededError) as error:
            raise BadResult(_unstorable_row(source, page, error)) from None
        for name, count in counts.items():
            self._progress[name] = self._progress.get(name, 0) + count
        return written

    async def _store_once(
        self, source: str, page: Sequence[Item]
    ) -> tuple[WriteCounts, dict[str, int]]:
        async with tenancy.transaction(self.context.pool, None) as connection:
            now = self.context.clock()
            written = await items.write(connection, None, source, page, now, self.id)
            counts = {name: getattr(written, name) for name in WRITTEN} | {"records": written.given}
            await progress.add_totals(connection, self.claimed, counts)
        return written, counts

    async def collect(
        self,
        sources: Sequence[Source] | Sequence[PlannedSource],
        group: SourceGroup | None = None,
        budget: CollectionBudget | None = None,
    ) -> None:
        """Collect sources, page by page, and set the outcome from theirs.

        The outcome is that of all sources that the run has collected.
        `group`: how their records are stored; the job's if not given. `budget`: limits on pages
        and bytes. Raises ValueError for a source if there is no group.
        """
        planned = [self._planned(one, group or self._job.group) for one in sources]
        await self._collect(planned, budget)

    def _planned(self, source: Source | PlannedSource, group: SourceGroup | None) -> PlannedSource:
        if isinstance(source, PlannedSource):
            return source
        if group is None:
            raise ValueError(
                f"nothing says how the records of {source.name} are stored: declare its class with"
                " @source, or pass `group` to run.collect"
            )
        return PlannedSource(group, source)

    async def _collect(
        self, planned: Sequence[PlannedSource], budget: CollectionBudget | None
    ) -> None:
        context, claimed, outcome = self.context, self.claimed, self.outcome
        # Not again: sources that ended before a deferral, or succeeded before a retry.
        again = claimed.deferrals or claimed.retries
        ended = await progress.finished_sources(context.pool, claimed) if again else {}
        pending = [
            (part, await progress.begin(context.pool, claimed, part.source.name))
            for part in planned
            if part.source.name not in ended
        ]
        rows = [*ended.values(), *(row for _, row in pending)]
        if budget is not None:
            budget.count_earlier(rows)
        self._parts += planned
        self._rows |= {row.source: row for row in rows}
        if claimed.attempt > 1:
            totals = run_totals(self._parts, self._rows.values())
            await progress.restart(context.pool, claimed, totals)
        collectors = [Collector(context, part, claimed, row, budget) for part, row in pending]
        rows = await gather_fail_fast(collector.run() for collector in collectors)
        self._rows |= {row.source: row for row in rows}
        _set_outcome(outcome, self._parts, [*self._rows.values()])
        self._late |= {
            one.row.source: (one.backoff[0], str(one.backoff[1])[:500])
            for one in collectors
            if one.backoff is not None
        }
        outcome.deferral = attempts.decide_deferral(claimed, context.clock(), self._late)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Commit the session when the body returns, and close everything however it ends.

        Translates what httpx, SQLAlchemy and arq raise.
        """
        async with self._stack:
            self._stack.enter_context(taking_connections())  # the first, so the last to end
            try:
                yield
                if self._session is not None:
                    await self._session.commit()
            except RunDeferred as asked:
                self._defer(asked)
            except Retry as retry:  # arq's own word for it
                wait = (retry.defer_score or 0) / 1000
                self._defer(RunDeferred(self.context.clock() + timedelta(seconds=wait), "retry"))
            except httpx.HTTPStatusError as error:
                url = public_url(str(error.request.url))
                message = f"HTTP {error.response.status_code} from {url}"
                raise HttpStatus(message, status=error.response.status_code, url=url) from error
            except (httpx.HTTPError, aiohttp.ClientError) as error:
                raise to_failure(error, "") from error
            except Exception as error:
                # A DBAPIError of SQLAlchemy, which may not be loaded, holds what asyncpg raised.
                cause = getattr(getattr(error, "orig", None), "__cause__", None)
                if isinstance(cause, CONNECTION_LOST):
                    raise cause from error
                raise
            finally:
                self._ended = True
                if self._session is not None:
                    await self._session.close()

    @property
    def _session(self) -> "AsyncSession | None":
        return cast("AsyncSession | None", self.__dict__.get("session"))

    def _defer(self, asked: RunDeferred) -> None:
        outcome, now = self.outcome, self.context.clock()
        late = {self.job: (asked.until, asked.reason)}
        outcome.deferral = attempts.decide_deferral(self.claimed, now, late)
        outcome.status = RunStatus.FAILURE
        outcome.error_type = "not_deferred"
        outcome.error_message = (
            f"asked to be deferred until {asked.until:%Y-%m-%d %H:%M:%S} UTC, which is after the"
            f" next tick or once too often: {asked.reason}"
        )

    def conclude(self, result: object) -> None:
        """Set the outcome from what the job returned and recorded. Raises BadResult."""
        outcome = self.outcome
        if outcome.deferral is not None and outcome.error_type == "not_deferred":
            return
        if outcome.status is RunStatus.CANCELLED:
            outcome.status = RunStatus.SUCCESS
        if self._failures:
            if outcome.status is RunStatus.SUCCESS:
                outcome.status = RunStatus.PARTIAL_FAILURE
            outcome.error_type = outcome.error_type or "part_failed"
            outcome.error_message = outcome.error_message or _failures_text(self._failures)
        stats: dict[str, Any] = {**(outcome.stats or {}), **self._progress}
        if self._tally.requests:
            stats["requests"] = stats.get("requests", 0) + self._tally.requests
        if self._failures:
            stats["parts_failed"] = len(self._failures)
        if result is not None:
            stats |= result if isinstance(result, Mapping) else {"result": result}
        outcome.stats = _storable(stats, "the job returned")


def unset_secret(name: str, job: str) -> str:
    """What is wrong if a secret that a job declares is not set, and what to do."""
    return (
        f"{name}, a secret of the job {job!r}, is not set: {config.where_to_set(name)},"
        " then restart the workers"
    )


def _set_outcome(
    outcome: AttemptOutcome, parts: Sequence[PlannedSource], rows: Sequence[SourceProgress]
) -> None:
    outcome.status = attempts.combined_status([row.status for row in rows])
    outcome.stats = {**run_totals(parts, rows), **expectations.breach_stats(rows)}
    failed = [row for row in rows if row.error_kind]
    if failed:
        outcome.error_type = root_failure_kind([row.error_kind for row in failed if row.error_kind])
        outcome.error_message = "; ".join(f"{row.source}: {row.error_message}" for row in failed)


def _key(source: str, row: Any, key: str | Callable[[Any], str]) -> str:
    """The key of a row. Raises BadResult without one: rows of one key replace each other."""
    found = row.get(key) if isinstance(key, str) else key(row)
    if found is None or found == "":
        member = repr(key) if isinstance(key, str) else "its function"
        where = f"run.store({source[:100]!r})"
        raise BadResult(f"{where}: {member} gives no key for the row {repr(row)[:200]}")
    return str(found)


def _item(source: str, row: Mapping[str, Any], key: str | Callable[[Any], str]) -> Item:
    found, data = _key(source, row, key), dict[str, Any]()
    for name, value in row.items():
        try:
            data |= msgspec.to_builtins({name: value}, enc_hook=_as_text, str_keys=True)
        except TypeError as error:
            where = f"{str(name)[:100]!r} of the row {found[:100]!r}"
            raise BadResult(f"run.store({source[:100]!r}): {where} is not JSON: {error}") from None
    return Item(source, found, data)


def _as_text(value: object) -> str:
    """The text of what JSON does not have. Raises TypeError for what has yet to be executed."""
    if inspect.isroutine(value) or isinstance(value, Awaitable | Iterator | AsyncIterator):
        kind = type(cast("object", value)).__name__
        if isinstance(value, Coroutine):
            value.close()  # which would be warned of
        raise TypeError(f"a {kind}, which was not awaited, called or consumed")
    return str(value)


def _unstorable_row(source: str, page: Sequence[Item], error: Exception) -> str:
    """What is wrong with a page of rows that could not be written, as `error` says."""
    where = f"run.store({source[:100]!r})"
    for item in page:
        row = f"the row {item.key[:100]!r}"
        for name, value in (("the key", item.key), *item.data.items()):
            if not _has_storable_text({name: value}):
                return f"{where}: {name[:100]!r} of {row} has {UNSTORABLE}"
        if len(item.key) > MAX_KEY_LENGTH:
            return f"{where}: the key of {row} is too long: {error}"
    return f"{where}: {error}"


def _has_storable_text(value: object) -> bool:
    try:
        return is_storable(msgspec.json.decode(msgspec.json.encode(value)))  # a NaN is null
    except UnicodeEncodeError:
        return False


def _failures_text(failures: Mapping[str, str]) -> str:
    shown = [f"{part}: {error}" for part, error in [*failures.items()][:MAX_SHOWN_FAILURES]]
    more = len(failures) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _storable(stats: Mapping[Any, Any], given: str) -> dict[str, Any]:
    """The stats as JSON that Postgres stores. Raises BadResult, which names the member.

    `given`: where they are from, for the message.
    """
    plain = dict[str, Any]()
    for name, value in stats.items():
        try:
            one = msgspec.to_builtins({name: value}, enc_hook=_as_text, str_keys=True)
            storable = is_storable(one)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadResult(f"{given} {str(name)[:100]!r}, which is not JSON: {error}") from None
        if not storable:
            raise BadResult(f"{given} {str(name)[:100]!r}, which has {UNSTORABLE}")
        plain |= one
    text = json.dumps(plain)
    if len(text) > MAX_STATS_BYTES:
        raise BadResult(f"{given} {len(text):,} bytes; stats hold at most {MAX_STATS_BYTES:,}")
    return json.loads(text)
