"""The command line: every command of `python -m app`."""

import sys

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
    sources,
    status,
    ticks,
    trigger,
    verify,
)
from app.core.errors import RollcallError

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


def main() -> None:
    """Run a command; a RollcallError is printed as one sentence, with exit code 2."""
    try:
        app()
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
