"""Front door: the commands. `python -m app --help`"""

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
    epilog="Exit codes: 0 well, 1 the answer is bad, 2 it could not be done, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for room in (
    status, jobs, runs, proof, pauses, retiring, trigger, backfills, replays, exports, doctor,
    retention, schema, login,
):  # fmt: skip
    app.add_typer(room.app)
app.add_typer(odds_cli.app, name="odds")
app.add_typer(source_cli.app, name="source")
app.add_typer(orgs_cli.org, name="org")
app.add_typer(orgs_cli.token, name="token")


def main() -> None:
    """Run a command; what is wrong is said in a sentence, and the exit code is 2."""
    try:
        app()
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
