"""The command line: every command of `python -m app`."""

import sys

import typer

from app import odds_cli, orgs_cli, source_cli
from app.commands import (
    backfills,
    doctor,
    exports,
    jobs,
    login,
    pauses,
    proof,
    replays,
    retention,
    retiring,
    runs,
    schema,
    status,
    trigger,
)
from app.errors import RollcallError

app = typer.Typer(
    help="Rollcall: scheduled scraping that can prove it ran.",
    epilog="Exit codes: 0 success, 1 a fault or failure was found, 2 an error, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for module in (
    status, jobs, runs, proof, pauses, retiring, trigger, backfills, replays, exports, doctor,
    retention, schema, login,
):  # fmt: skip
    app.add_typer(module.app)
app.add_typer(odds_cli.app, name="odds")
app.add_typer(source_cli.app, name="source")
app.add_typer(orgs_cli.org, name="org")
app.add_typer(orgs_cli.token, name="token")


def main() -> None:
    """Run a command; a RollcallError is printed as one sentence, with exit code 2."""
    try:
        app()
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
