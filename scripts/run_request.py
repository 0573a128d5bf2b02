"""The `scripts/enqueue.py` command line: queues a manual run, and can follow it to its end."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn
from uuid import UUID

import asyncpg
from redis.exceptions import RedisError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from app.cli import connections, run_requests
from app.cli.connections import CommandContext
from app.core import config as settings
from app.core import log
from app.core.config import Config
from app.core.enums import COLLECTION_TASK, OPEN_STATUSES, SOURCE_TASK, RunStatus
from app.core.errors import BadParameters, RollcallError
from app.health import keys
from app.ledger.manual_runs import WantedRun
from app.queue.jobs import redis_pool
from app.store import db, schema, servers
from app.store.runs import listing, run_rows
from workers import registry
from workers.job import Job, from_text

POLL_SECONDS = 0.25  # seconds
NO_WORKER_SECONDS = 5.0  # give up waiting after so long without a live worker
EXIT_CODES = {RunStatus.SUCCESS: 0, RunStatus.PARTIAL_FAILURE: 1}
SERVER_ERRORS = (RedisError, asyncpg.PostgresError, *db.UNAVAILABLE)

_EXAMPLES = """examples:
  scripts/enqueue.py scrape_all_platforms
      queue a run of all platforms and print its execution id
  scripts/enqueue.py scrape_all_platforms --platforms bet9ja,betpawa --wait
      only these two, and show the progress until the run ends
  scripts/enqueue.py scrape_all_platforms --wait --json
      the outcome as one JSON object
  DATA_DIR=.rollcall/demo scripts/enqueue.py scrape_all_platforms --wait
      run it in the scripts/demo of another terminal

exit codes: 0 queued, or with --wait a full success; 1 partial_failure; 2 anything else
"""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The parsed command line. `params` were validated by the job."""

    job: Job
    params: dict[str, Any]
    wait: bool
    as_json: bool


def main(argv: Sequence[str]) -> int:
    """Queue the run that the command line names; returns the exit code."""
    try:
        config = settings.load()
        arguments = parse(argv, config)
        log.configure(config.log_format, "error")
        return asyncio.run(_ask(config, servers.server_urls(config), arguments))
    except RollcallError as error:
        return _fail(str(error))
    except SERVER_ERRORS as error:
        return _fail(f"Postgres or Redis cannot be used: {error or type(error).__name__}")
    except KeyboardInterrupt:
        return _fail("Stopped waiting; the run continues.")


def parse(argv: Sequence[str], config: Config) -> Arguments:
    """Parse the command line. Raises UnknownJob or BadParameters, which list the known names."""
    parser = _parser(config)
    given, rest = parser.parse_known_args(argv)
    job = registry.find_job(config, given.job)
    named = _parse_parameters(job, rest)
    params = job.validate_params(named).model_dump(mode="json", exclude_unset=True)
    return Arguments(job, params, given.wait, given.json)


def _parser(config: Config) -> argparse.ArgumentParser:
    hidden = {SOURCE_TASK, COLLECTION_TASK}
    jobs = [job for job in registry.load(config).jobs if job.name not in hidden]
    known = "\n".join(f"  {job.name}  {_parameter_list(job)}" for job in jobs)
    parser = argparse.ArgumentParser(
        prog="scripts/enqueue.py",
        usage="%(prog)s JOB [--parameter VALUE ...] [--wait] [--json]",
        description="Queue a manual run. It has no tick and does not affect the schedule.",
        epilog=f"jobs and their parameters (lists are comma-separated):\n{known}\n\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("job", metavar="JOB", help="the job's name")
    parser.add_argument("--wait", action="store_true", help="show the progress until the run ends")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    return parser


def _parameter_list(job: Job) -> str:
    return " ".join(f"--{_flag(name)}" for name in job.params.model_fields) or "(none)"


def _flag(name: str) -> str:
    return name.replace("_", "-")


class _RaisingParser(argparse.ArgumentParser):
    """An argument parser that raises BadParameters where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        raise BadParameters(message)


def _parse_parameters(job: Job, argv: Sequence[str]) -> dict[str, Any]:
    parser = _RaisingParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name, field in job.params.model_fields.items():
        parser.add_argument(
            f"--{_flag(name)}", dest=name, type=partial(from_text, field.annotation)
        )
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise BadParameters(
            f"{job.name} does not take {unknown[0]!r}; known: {_parameter_list(job)}"
        )
    return vars(given)


async def _ask(config: Config, urls: servers.ServerUrls, arguments: Arguments) -> int:
    async with _connect(config, urls) as context:
        run_id = await _queue(context, arguments)
        if not arguments.as_json:
            print(run_id, flush=True)
        if not arguments.wait:
            with suppress(*connections.REDIS_AWAY):  # which was said when the run was queued
                if not await keys.read_workers(context.redis):
                    _fail("No worker is alive: the run stays queued until one starts.")
            return _finish(arguments, {"execution_id": str(run_id), "status": "queued"}, 0)
        status = await _follow(context, arguments, run_id)
        if status is None:
            _fail("No worker is alive: stopped waiting. The run stays queued until one starts.")
            return _finish(arguments, await _outcome(context, run_id), 2)
        return _finish(arguments, await _outcome(context, run_id), EXIT_CODES.get(status, 2))


@asynccontextmanager
async def _connect(config: Config, urls: servers.ServerUrls) -> AsyncGenerator[CommandContext]:
    redis = redis_pool(urls.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)
    try:
        pool = await db.open_pool(urls.database, size=2, wait_seconds=5)
        try:
            await schema.check(pool)
            yield CommandContext(config, pool, redis)
        finally:
            await pool.close()
    finally:
        await redis.aclose(close_connection_pool=True)


async def _queue(context: CommandContext, arguments: Arguments) -> UUID:
    job = arguments.job.name
    return await run_requests.queue_run(context, WantedRun(job, job, arguments.params))


async def _follow(context: CommandContext, arguments: Arguments, run_id: UUID) -> RunStatus | None:
    """Show the progress until the run ends; returns its status, or None if no worker is alive."""
    clock = asyncio.get_running_loop().time
    # If the first poll finds no worker, none is waited for.
    last_seen = clock() - NO_WORKER_SECONDS
    console = Console(stderr=True, markup=False, emoji=False)
    with ExitStack() as stack:
        if not console.is_terminal:
            stack.callback(console.print)  # Live omits the last newline there
        live = stack.enter_context(Live(console=console, auto_refresh=False))
        while True:
            row = await run_rows.read_run(context.pool, run_id)
            status = RunStatus.LOST if row is None else RunStatus(row["status"])
            live.update(
                _progress(arguments.job, status, await listing.sources(context.pool, run_id)),
                refresh=True,
            )
            if status not in OPEN_STATUSES:
                return status
            if await keys.read_workers(context.redis):
                last_seen = clock()
            elif clock() - last_seen >= NO_WORKER_SECONDS:
                return None
            await asyncio.sleep(POLL_SECONDS)


def _progress(job: Job, status: RunStatus, sources: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{job.name}: {status}", title_justify="left")
    for name in ("source", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("pages", "events", "rejected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("error")
    for row in sources:
        counts = (str(row[name]) for name in ("pages", "records", "rejected"))
        table.add_row(row["source"], row["status"], *counts, row["error_message"] or "")
    return table


async def _outcome(context: CommandContext, run_id: UUID) -> dict[str, Any]:
    row = await run_rows.read_run(context.pool, run_id) or {}
    fields = ("status", "attempt", "duration_seconds", "error_type", "error_message", "stats")
    return {
        "execution_id": str(run_id),
        **{name: row.get(name) for name in fields},
        "sources": [
            {name: row[name] for name in ("source", "status", "pages", "records", "error_message")}
            for row in await listing.sources(context.pool, run_id)
        ],
    }


def _finish(arguments: Arguments, outcome: dict[str, Any], code: int) -> int:
    if arguments.as_json:
        print(json.dumps({"job": arguments.job.name, **outcome}))
    return code


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 2
