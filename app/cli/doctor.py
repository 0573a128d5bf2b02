"""The `doctor` command: check the installation for faults."""

import typer
from rich.console import Console
from rich.table import Table

from app.cli import terminal
from app.core.config import Config
from app.core.errors import BadConfig
from app.health import doctor as rooms
from app.health.doctor import DiagnosticTargets, Finding, Level
from app.queue.jobs import redis_pool
from app.store import db, servers
from app.store.servers import ServerUrls
from workers import registry

app = typer.Typer()

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}


@app.command()
def doctor(*, as_json: terminal.JSON = False) -> None:
    """Check settings, servers, schema, workers and schedules, and say how to fix each fault.

    Exit code 1 if there is a fault; warnings do not count.

    Examples: `python -m app doctor`, `python -m app doctor --json`
    """
    try:
        config = terminal.load_config()
        urls = servers.server_urls(config)
        findings = terminal.run_async(lambda: _examine(config, urls))
    except BadConfig as error:
        findings = [Finding("settings", Level.FAULT, str(error), "see .env.example")]
    if as_json:
        terminal.print_json(
            [
                {"what": f.subject, "level": f.level, "said": f.message, "mend": f.fix}
                for f in findings
            ]
        )
    else:
        _show(findings)
    if any(finding.level is Level.FAULT for finding in findings):
        raise typer.Exit(1)


async def _examine(config: Config, urls: ServerUrls) -> list[Finding]:
    redis = redis_pool(urls.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)
    loaded = registry.load(config)
    disabled = [
        (job.name, reason)
        for job in loaded.jobs
        if (reason := job.disabled_reason(config)) is not None
    ]
    declared = [schedule.key for schedule in loaded.declared]
    findings = [rooms.faulty_job(fault) for fault in loaded.faults]
    pool: db.Pool | None = None
    try:
        pool = await db.open_pool(urls.database, size=2, wait_seconds=0)
    except (*db.UNAVAILABLE, *db.MISCONFIGURED) as error:
        fix = (
            "check DATABASE_URL, and that the server runs and accepts connections from this machine"
        )
        findings.append(rooms.fault("postgres", f"cannot be reached: {error}", fix))
    try:
        return findings + await rooms.run_checks(
            DiagnosticTargets(config, pool, redis, disabled, declared)
        )
    finally:
        await redis.aclose(close_connection_pool=True)
        if pool is not None:
            await pool.close()


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False)
    for finding in findings:
        style = _STYLES[finding.level]
        fix = f"\n[dim]-> {terminal.markup(finding.fix)}[/]" if finding.fix else ""
        message = terminal.markup(finding.message)
        table.add_row(
            f"[{style}]{finding.level}[/]", terminal.markup(finding.subject), f"{message}{fix}"
        )
    Console(highlight=False).print(table)
