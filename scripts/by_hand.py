"""A run asked for by hand: understood, queued, and followed to its end if that is wanted."""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID, uuid4

import asyncpg
from arq.connections import ArqRedis
from redis.exceptions import RedisError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from app import config as settings
from app import log, resources
from app.config import Config
from app.errors import BadParameters, RollcallError
from app.health import keys
from app.queue import enqueue, redis_pool
from app.store import beats, db, runs
from app.store.db import Pool
from app.store.runs import Wanted
from app.words import OPEN_STATUSES, RunStatus
from workers import catalogue
from workers.job import Job

LOOK_EVERY = 0.25  # seconds
NOBODY_FOR = 5.0  # seconds without any worker until nobody is waited for any more
EXIT = {RunStatus.SUCCESS: 0, RunStatus.PARTIAL_FAILURE: 1}
TROUBLE = (RedisError, asyncpg.PostgresError, *db.AWAY)

_EXAMPLES = """examples:
  scripts/enqueue.py scrape_all_platforms
      queue a run of all platforms and print its execution id
  scripts/enqueue.py scrape_all_platforms --platforms bet9ja,betpawa --wait
      only these two, and show the progress until the end
  scripts/enqueue.py scrape_all_platforms --wait --json
      the outcome as one JSON object
  DATA_DIR=.rollcall/demo scripts/enqueue.py scrape_all_platforms --wait
      by the worker of a scripts/demo in another terminal

exit codes: 0 queued, or with --wait a full success; 1 partial_failure; 2 anything else
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. `params` are as the job understood them."""

    job: Job
    params: dict[str, Any]
    wait: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Reach:
    """Both servers, open."""

    config: Config
    pool: Pool
    redis: ArqRedis


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code."""
    try:
        asked = understood(arguments)
        config = settings.load()
        log.configure(config.log_format, "error")
        return asyncio.run(_ask(config, resources.urls(config), asked))
    except RollcallError as error:
        return _sorry(str(error))
    except asyncpg.UndefinedTableError:
        return _sorry("The database has no tables yet: run `python -m app migrate` first.")
    except TROUBLE as error:
        return _sorry(f"Postgres or Redis cannot be used: {error or type(error).__name__}")
    except KeyboardInterrupt:
        return _sorry("Not waiting any longer; the run goes on.")


def understood(arguments: Sequence[str]) -> Asked:
    """Read the command line. Raises UnknownJob or BadParameters, which list what is known."""
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    job = catalogue.find(given.job)
    named = _named(job, rest)
    params = job.understood(named).model_dump(mode="json", exclude_unset=True)
    return Asked(job, params, given.wait, given.json)


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {job.name}  {_parameters(job)}" for job in catalogue.JOBS)
    parser = argparse.ArgumentParser(
        prog="scripts/enqueue.py",
        usage="%(prog)s JOB [--parameter VALUE ...] [--wait] [--json]",
        description="Queue a run by hand. It has no tick and does not disturb the schedule.",
        epilog=f"jobs and their parameters (lists are comma-separated):\n{known}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("job", metavar="JOB", help="the job's name")
    parser.add_argument("--wait", action="store_true", help="show the progress until the run ends")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    return parser


def _parameters(job: Job) -> str:
    return " ".join(f"--{_flag(name)}" for name in job.params.model_fields) or "(none)"


def _flag(name: str) -> str:
    return name.replace("_", "-")


class _Strict(argparse.ArgumentParser):
    """Faults are raised instead of printed."""

    def error(self, message: str) -> NoReturn:
        raise BadParameters(message)


def _named(job: Job, words: Sequence[str]) -> dict[str, Any]:
    parser = _Strict(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name, field in job.params.model_fields.items():
        many = "tuple" in str(field.annotation) or "list" in str(field.annotation)
        parser.add_argument(f"--{_flag(name)}", dest=name, type=_list if many else str)
    given, unknown = parser.parse_known_args(words)
    if unknown:
        raise BadParameters(f"{job.name} does not take {unknown[0]!r}; known: {_parameters(job)}")
    return vars(given)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


async def _ask(config: Config, where: resources.Urls, asked: Asked) -> int:
    async with _reach(config, where) as reach:
        run_id = await _queue(reach, asked)
        if not asked.as_json:
            print(run_id, flush=True)
        alive = bool(await keys.read_workers(reach.redis))
        if not asked.wait:
            if not alive:
                _sorry("No worker is alive: the run waits in the queue until one is.")
            return _end(asked, {"execution_id": str(run_id), "status": "queued"}, 0)
        followed = await _follow(reach, asked, run_id)
        if followed is None:
            _sorry("No worker is alive, so nobody waits. The run stays queued until one is.")
            return _end(asked, await _outcome(reach, run_id), 2)
        return _end(asked, await _outcome(reach, run_id), EXIT.get(followed, 2))


@asynccontextmanager
async def _reach(config: Config, where: resources.Urls) -> AsyncGenerator[_Reach]:
    redis = redis_pool(where.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)
    try:
        pool = await db.open_pool(where.database, size=2, patience=5)
        try:
            yield _Reach(config, pool, redis)
        finally:
            await pool.close()
    finally:
        await redis.aclose()


async def _queue(reach: _Reach, asked: Asked) -> UUID:
    wanted = Wanted(
        run_id=uuid4(),
        job=asked.job.name,
        params=asked.params,
        requested_by=_who(),
        max_attempts=reach.config.max_attempts,
        timeout=reach.config.job_timeout_seconds,
    )
    await runs.request(reach.pool, wanted, await beats.database_now(reach.pool))
    run_id = str(wanted.run_id)
    await enqueue(reach.redis, wanted.job, run_id, job_id=f"run:{run_id}:1")
    return wanted.run_id


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return "enqueue.py"


async def _follow(reach: _Reach, asked: Asked, run_id: UUID) -> RunStatus | None:
    """Show the progress until the run has ended; None once no worker has been alive for a while."""
    clock = asyncio.get_running_loop().time
    # The first look may find nobody because nobody is there, and then there is no use in patience.
    last_seen = clock() - NOBODY_FOR
    console = Console(stderr=True)
    with ExitStack() as stack:
        if not console.is_terminal:
            stack.callback(console.print)  # the table's last line has no end there
        live = stack.enter_context(Live(console=console, auto_refresh=False))
        while True:
            row = await runs.look(reach.pool, run_id)
            status = RunStatus.LOST if row is None else RunStatus(row["status"])
            live.update(
                _progress(asked.job, status, await runs.look_sources(reach.pool, run_id)),
                refresh=True,
            )
            if status not in OPEN_STATUSES:
                return status
            if await keys.read_workers(reach.redis):
                last_seen = clock()
            elif clock() - last_seen >= NOBODY_FOR:
                return None
            await asyncio.sleep(LOOK_EVERY)


def _progress(job: Job, status: RunStatus, sources: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{job.name}: {status}", title_justify="left")
    for name in ("source", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("pages", "events", "rejected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("error")
    for row in sources:
        numbers = (str(row[name]) for name in ("pages", "records", "rejected"))
        table.add_row(row["source"], row["status"], *numbers, row["error_message"] or "")
    return table


async def _outcome(reach: _Reach, run_id: UUID) -> dict[str, Any]:
    row = await runs.look(reach.pool, run_id) or {}
    told = ("status", "attempt", "duration_seconds", "error_type", "error_message", "stats")
    return {
        "execution_id": str(run_id),
        **{name: row.get(name) for name in told},
        "sources": [
            {name: row[name] for name in ("source", "status", "pages", "records", "error_message")}
            for row in await runs.look_sources(reach.pool, run_id)
        ],
    }


def _end(asked: Asked, outcome: dict[str, Any], code: int) -> int:
    if asked.as_json:
        print(json.dumps({"job": asked.job.name, **outcome}))
    return code


def _sorry(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 2
