"""The command that looks for faults: `doctor`."""

import typer
from rich.console import Console
from rich.table import Table

from app import doctor as rooms
from app import resources, terminal
from app.config import Config
from app.doctor import Finding, Level, Patient
from app.errors import BadConfig
from app.queue import redis_pool
from app.resources import Urls
from app.store import db
from workers import catalogue

app = typer.Typer()

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}


@app.command()
def doctor(*, as_json: terminal.JSON = False) -> None:
    """Look at settings, servers, schema, workers and schedules, and say what mends each fault.

    Exit code 1 if there is a fault; warnings do not count.

    Examples: `python -m app doctor`, `python -m app doctor --json`
    """
    try:
        config = terminal.config()
        where = resources.urls(config)
        found = terminal.doing(lambda: _examined(config, where))
    except BadConfig as error:
        found = [Finding("settings", Level.FAULT, str(error), "see .env.example")]
    if as_json:
        terminal.print_json(
            [{"what": f.what, "level": f.level, "said": f.said, "mend": f.mend} for f in found]
        )
    else:
        _show(found)
    if any(one.level is Level.FAULT for one in found):
        raise typer.Exit(1)


async def _examined(config: Config, where: Urls) -> list[Finding]:
    redis = redis_pool(where.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)
    off = [(job.name, why) for job in catalogue.JOBS if (why := job.off(config)) is not None]
    declared = [one.key for one in catalogue.declared(config)]
    found: list[Finding] = []
    pool: db.Pool | None = None
    try:
        pool = await db.open_pool(where.database, size=2, patience=0)
    except (*db.AWAY, *db.UNFIT) as error:
        mend = "check DATABASE_URL, and that the server runs and lets this machine in"
        found.append(rooms.bad("postgres", f"cannot be reached: {error}", mend))
    try:
        return found + await rooms.examined(Patient(config, pool, redis, off, declared))
    finally:
        await redis.aclose(close_connection_pool=True)
        if pool is not None:
            await pool.close()


def _show(found: list[Finding]) -> None:
    table = Table(box=None, show_header=False)
    for one in found:
        mend = f"\n[dim]-> {one.mend}[/]" if one.mend else ""
        table.add_row(f"[{STYLES[one.level]}]{one.level}[/]", one.what, f"{one.said}{mend}")
    Console(highlight=False).print(table)
