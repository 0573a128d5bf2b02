"""The command line: every command of `python -m app`."""

import signal
import sys
from typing import NoReturn

import typer

from app.cli import (
    backfill,
    doctor,
    export,
    jobs,
    login,
    migrate,
    odds,
    orgs,
    pause,
    prune,
    rejected,
    replay,
    retire,
    runs,
    secrets,
    sources,
    status,
    ticks,
    trigger,
    verify,
)
from app.core import config, log
from app.core.errors import FileUnusable, RollcallError, is_of_a_file

PROGRAM = "rollcall"  # also for `python -m app`: completion for `python` would break its own

app = typer.Typer(
    help="Rollcall: scheduled scraping that can prove it ran.",
    epilog="Exit codes: 0 success, 1 a fault or failure was found, 2 an error, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for module in (
    status, jobs, runs, ticks, rejected, verify, pause, retire, trigger, backfill, replay, export,
    doctor, prune, migrate, login,
):  # fmt: skip
    app.add_typer(module.app)
app.add_typer(odds.app, name="odds")
app.add_typer(sources.app, name="source")
app.add_typer(orgs.org, name="org")
app.add_typer(orgs.token, name="token")
app.add_typer(secrets.app, name="secret")


def main() -> None:
    """Run a command; what cannot be done is said in one sentence, with exit code 2.

    Lines are JSON if LOG_FORMAT is. An interrupt is silent, with exit code 130: the entry points
    end the process for one that comes while modules are imported, or while it exits.
    """
    entry_handler = signal.getsignal(signal.SIGINT)
    try:
        if callable(entry_handler):
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app(prog_name=PROGRAM)
    except KeyboardInterrupt:
        sys.exit(130)
    except RollcallError as error:
        _fail(error)
    except OSError as error:
        if not is_of_a_file(error):
            raise
        _fail(FileUnusable.from_error(error))
    finally:
        signal.signal(signal.SIGINT, entry_handler)


def _fail(error: RollcallError) -> NoReturn:
    log.report_fatal(str(error), config.chosen_format())
    sys.exit(2)
