"""The command line: every command of `python -m app`."""

import logging
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from app.cli import streams
from app.cli.lazy_group import LazyCommand, lazy_group
from app.core.errors import FileUnusable, RollcallError, is_of_a_file

PROGRAM = "rollcall"  # also for `python -m app`: completion for `python` would break its own

# The help of each is the first paragraph of its function's docstring.
COMMANDS = {
    "status": LazyCommand(
        "app.cli.status",
        "Summarise workers, queue and jobs."
        " Exit code 1 if a job is at fault or no worker is alive.",
    ),
    "jobs": LazyCommand(
        "app.cli.jobs",
        "List the schedules: when each is due, its health, and its next tick.",
    ),
    "runs": LazyCommand(
        "app.cli.runs",
        "List runs, the newest first. With `--follow`, print each when it starts and ends.",
    ),
    "run": LazyCommand(
        "app.cli.runs",
        "Show one run: its attempts, sources, rejected records and log.",
    ),
    "cancel": LazyCommand(
        "app.cli.runs",
        "Cancel a run that is queued or running. Its worker stops within a third of its lease.",
    ),
    "retry": LazyCommand(
        "app.cli.runs",
        "Queue a new run with the parameters of one that has ended, which stays as it is.",
    ),
    "ticks": LazyCommand(
        "app.cli.ticks",
        "List the ticks of a job with their outcomes, the newest first.",
    ),
    "rejected": LazyCommand(
        "app.cli.rejected",
        "List rejected records with the run that rejected them, the newest run first.",
    ),
    "verify": LazyCommand(
        "app.cli.verify",
        "Prove that every tick has exactly one outcome. Exit code 1 if one has none or several.",
    ),
    "why": LazyCommand(
        "app.cli.verify",
        "Explain the outcome of a tick, from schedule to run.",
    ),
    "pause": LazyCommand(
        "app.cli.pause",
        "Pause a schedule. Its ticks are recorded as `skipped(paused)` until it is resumed.",
    ),
    "resume": LazyCommand(
        "app.cli.pause",
        "Resume a paused schedule. The ticks of the pause are recorded first.",
    ),
    "alerts": LazyCommand(
        "app.cli.alerts",
        "List what is unhealthy: since when, when it was alerted, and who has acknowledged it.",
    ),
    "acknowledge": LazyCommand(
        "app.cli.alerts",
        "Send no reminders of an alert until it recovers or gets worse, or a snooze ends.",
    ),
    "unacknowledge": LazyCommand(
        "app.cli.alerts",
        "Send reminders of an acknowledged or snoozed alert again.",
    ),
    "retire": LazyCommand(
        "app.cli.retire",
        "End the schedule of a job that was removed from the code."
        " Its past ticks are still verified.",
    ),
    "trigger": LazyCommand(
        "app.cli.trigger",
        "Queue a manual run. It has no tick and does not affect the schedule.",
    ),
    "backfill": LazyCommand(
        "app.cli.backfill",
        "Run a job once for each tick of its schedule in a past range.",
    ),
    "backfills": LazyCommand(
        "app.cli.backfill",
        "List the newest backfills of the operator's jobs, and how far each is.",
    ),
    "workers": LazyCommand(
        "app.cli.workers",
        "List the live workers with what they run. Exit code 1 if none is alive.",
    ),
    "replay": LazyCommand(
        "app.cli.replay",
        "Parse stored pages again with the present parser, and correct the stored rows.",
    ),
    "export": LazyCommand(
        "app.cli.export",
        "Stream rows to a file; memory use does not depend on their number.",
    ),
    "doctor": LazyCommand(
        "app.cli.doctor",
        "Check settings, servers, schema, workers and schedules, and say how to fix each fault.",
    ),
    "prune": LazyCommand(
        "app.cli.prune",
        "Delete what is past its retention now, not at night. `verify` still counts it.",
    ),
    "migrate": LazyCommand(
        "app.cli.migrate",
        "Upgrade the database schema to the latest revision.",
    ),
    "login": LazyCommand(
        "app.cli.login",
        "Print an address that signs in once, as the operator. Valid for ten minutes.",
    ),
    "odds": LazyCommand(
        "app.cli.odds",
        "Compare the prices of upcoming matches.",
        is_group=True,
    ),
    "news": LazyCommand(
        "app.cli.news",
        "List collected articles, the last published first.",
        is_group=True,
    ),
    "job": LazyCommand(
        "app.cli.job_files",
        "Write the file of an own job or source, with its test.",
        is_group=True,
    ),
    "source": LazyCommand(
        "app.cli.sources",
        "Write, check and try recipes.",
        is_group=True,
    ),
    "org": LazyCommand(
        "app.cli.orgs:org",
        "Manage organisations.",
        is_group=True,
    ),
    "token": LazyCommand(
        "app.cli.orgs:token",
        "Manage API tokens.",
        is_group=True,
    ),
    "secret": LazyCommand(
        "app.cli.secrets",
        "Secrets of organisations.",
        is_group=True,
    ),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    help="Rollcall: scheduled scraping that can prove it ran.",
    epilog="Exit codes: 0 success, 1 a fault or failure was found, 2 an error, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from app.core.version import VERSION  # noqa: PLC0415 - not read for `--help`

        typer.echo(f"{PROGRAM} {VERSION}")
        raise typer.Exit


@app.callback()
def rollcall(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Nothing: a group without commands of its own needs a callback."""
    del version  # printed by its own callback


def _is_not_abandoned(record: logging.LogRecord) -> bool:
    # asyncpg leaves the future of a connection that an interrupt has abandoned. What a command
    # could not do, it says itself.
    return not record.getMessage().startswith("Future exception was never retrieved")


def main() -> None:
    """Run a command; what cannot be done is said in one sentence, with exit code 2.

    Lines are JSON if LOG_FORMAT is. An interrupt is silent, with exit code 130: the entry points
    end the process for one that comes while modules are imported. One that comes when the command
    has ended does not change its exit code.
    """
    streams.prepare()
    logging.getLogger("asyncio").addFilter(_is_not_abandoned)
    entry_handler = signal.getsignal(signal.SIGINT)
    try:
        try:
            app(prog_name=PROGRAM)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        # At once: what it has left of tasks and connections would be reported when it is collected.
        os._exit(130)
    except RollcallError as error:
        _fail(error)
    except OSError as error:
        if not is_of_a_file(error):
            raise
        streams.discard(sys.stdout)  # it would fail again when the interpreter ends
        _fail(FileUnusable.from_error(error, error.filename or "the standard output, or a file,"))
    finally:
        if callable(entry_handler):  # else interrupts are ignored
            ended = sys.exception()
            code = ended.code if isinstance(ended, SystemExit) else 130

            def keep_code(_: int, __: object) -> None:
                os._exit(int(code or 0))

            signal.signal(signal.SIGINT, keep_code)


def _fail(error: RollcallError) -> NoReturn:
    from app.core import config, log  # noqa: PLC0415 - not imported for `--help`

    log.report_fatal(str(error), config.chosen_format())
    streams.print_error(str(error))
    sys.exit(2)
