"""The last log lines of each run, kept in Redis for a day for the dashboard.

What an organisation's runs say is bounded by itself, and displaces no other's lines.

Logging appends a line to a bounded queue in memory; a background task writes the queue to Redis in
batches. When the queue is full the oldest lines are dropped, so that logging never slows a run.
"""

import asyncio
import contextlib
import json
import logging
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import redact
from app.core.cache_bounds import OPERATOR, UNKNOWN, CacheBounds
from app.core.enums import COLLECTION_TASK
from app.core.tasks import cancel_all

MAX_LINES = 200  # per run
MAX_LINE_LENGTH = 500  # bytes per line
MAX_PENDING_LINES = 5_000  # lines in memory
FLUSH_SECONDS = 0.5  # between two flushes
RETENTION_SECONDS = 24 * 3600
BOUNDS = CacheBounds(
    "log",
    seconds=RETENTION_SECONDS,
    operator=(2_000, 16_000_000),
    tenant=(200, 1_000_000),
    all_tenants=12_000_000,
)

_BOUND = frozenset(
    {"execution_id", "job", "task", "worker", "attempt", "event", "level", "timestamp"}
)
_INTERNAL = frozenset({"logger", "exc_info", "stack_info", "_record", "_from_structlog"})

LogEvent = tuple[str, Mapping[str, Any]]  # execution_id, event
Clean = Callable[[Mapping[str, Any]], dict[str, Any]]


def key(run_id: UUID | str) -> str:
    """Return the Redis key of a run's lines."""
    return f"rollcall:log:{run_id}"


class RunLogHandler(logging.Handler):
    """Queues a copy of every log event that is bound to a run, after structlog's processors."""

    def __init__(self, clean: Clean) -> None:
        super().__init__()
        self.clean = clean
        self.pending: deque[LogEvent] = deque(maxlen=MAX_PENDING_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the event if it is bound to a run. Never raises or blocks."""
        event = cast("object", record.msg)
        if isinstance(event, dict) and "execution_id" in event:
            fields = cast("Mapping[str, Any]", event)
            self.pending.append((str(fields["execution_id"]), dict(fields)))


def format_line(event: Mapping[str, Any]) -> str:
    """Format an event as one line: timestamp, level, name and fields; at most 500 bytes."""
    fields = [
        f"{key}={_quoted(value)}"
        for key, value in event.items()
        if key not in _BOUND and key not in _INTERNAL
    ]
    error = event.get("exc_info")
    if isinstance(error, BaseException):
        fields.append(f"error_type={type(error).__name__}")
    at, level = str(event.get("timestamp", ""))[:23], str(event.get("level", ""))
    head = f"{at} {level:<7} {event.get('event', '')}"
    line = " ".join([head, *fields]).replace("\n", " ")
    text = line.encode(errors="replace")
    if len(text) <= MAX_LINE_LENGTH:
        return line
    return text[: MAX_LINE_LENGTH - len("…".encode())].decode(errors="ignore") + "…"


def _quoted(value: object) -> str:
    shown = str(value)
    return json.dumps(shown, ensure_ascii=False) if " " in shown or not shown else shown


@asynccontextmanager
async def capture(redis: Redis, secrets: Collection[str] = ()) -> AsyncGenerator[RunLogHandler]:
    """Capture the log lines of this process's runs for the duration of the block.

    `secrets` are removed from every line. On exit the remaining lines are flushed, for up to 1 s.
    """
    handler = RunLogHandler(redact.redactor(tuple(secrets)))
    root = logging.getLogger()
    root.addHandler(handler)
    flushing = asyncio.create_task(_flush_forever(handler, redis))
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        await cancel_all([flushing])
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                await flush(handler, redis)


async def _flush_forever(handler: RunLogHandler, redis: Redis) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await flush(handler, redis)


async def flush(handler: RunLogHandler, redis: Redis) -> None:
    """Write the queued lines to Redis. On an error these lines are lost. Raises RedisError."""
    queued = [handler.pending.popleft() for _ in range(len(handler.pending))]
    if not queued:
        return
    by_run, owners = _by_run(queued, handler.clean)
    unowned = [run_id for run_id in by_run if run_id not in owners]
    async with redis.pipeline(transaction=False) as pipe:
        for run_id in unowned:
            pipe.exists(key(run_id))
            pipe.zscore(BOUNDS.index(UNKNOWN), key(run_id))
        for run_id, texts in by_run.items():
            pipe.rpush(key(run_id), *texts)
            pipe.ltrim(key(run_id), -MAX_LINES, -1)
            pipe.expire(key(run_id), RETENTION_SECONDS)
        results = await pipe.execute()
    written: defaultdict[str, list[str]] = defaultdict(list)
    for run_id, owner in owners.items():
        written[owner].append(key(run_id))
    for run_id, was_kept, indexed in zip(unowned, results[::2], results[1::2], strict=False):
        # A line that names no job leaves a run that is kept already to its owner.
        if not was_kept or indexed is not None:
            written[UNKNOWN].append(key(run_id))
    for owner, names in written.items():
        await BOUNDS.apply(redis, owner, names)


def _by_run(
    events: Iterable[LogEvent], clean: Clean
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the lines of each run, and the owners of those whose job is known."""
    by_run: defaultdict[str, list[str]] = defaultdict(list)
    owners: dict[str, str] = {}
    for run_id, event in events:
        by_run[run_id].append(format_line(clean(event)))
        if job := event.get("job"):
            kind, _, name = str(job).partition(":")
            org_id = name.partition(":")[0].replace("-", "")
            owners[run_id] = (org_id or UNKNOWN) if kind == COLLECTION_TASK else OPERATOR
    return by_run, owners


async def read_lines(redis: Redis, run_id: UUID) -> list[str]:
    """Return the stored lines of a run, oldest first; empty if there are none."""
    found = cast("list[bytes | str]", await redis.lrange(key(run_id), 0, -1))  # pyright: ignore[reportGeneralTypeIssues, reportUnknownMemberType]
    return [line.decode(errors="replace") if isinstance(line, bytes) else line for line in found]
