"""The `doctor` command: check the installation for faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.cli import connections, migrate, terminal
from app.core.errors import RollcallError
from app.health import doctor as checks
from app.health import findings as findings_
from app.health import setting_checks
from app.queue import jobs
from app.store import db, server_faults, servers
from workers import registry

if TYPE_CHECKING:
    from app.core.config import Config
    from app.health.findings import Finding
    from app.store.servers import ServerUrls

app = typer.Typer()

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red"}  # by Level


@app.command()
def doctor(
    *,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Make the repairs that lose nothing: migrate, and stop Redis evicting."
        ),
    ] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Check settings, servers, schema, workers and schedules, and say how to fix each fault.

    Exit code 1 if there is a fault; warnings do not count.

    Examples: `rollcall doctor`, `rollcall doctor --fix`
    """
    findings = _check()
    if fix:
        repaired = _repair(findings)
        findings = [*repaired, *_check()] if repaired else findings
    if as_json:
        terminal.print_json(
            [
                {"what": f.subject, "level": f.level, "said": f.message, "mend": f.fix}
                for f in findings
            ]
        )
    else:
        _show(findings)
    if any(finding.level is findings_.Level.FAULT for finding in findings):
        raise typer.Exit(1)


def _check() -> list[Finding]:
    try:
        config = connections.load_config()
        urls = servers.server_urls(config)
        return connections.run_async(lambda: _examine(config, urls))
    except RollcallError as error:
        fault = findings_.fault("settings", str(error), "see .env.example")
        return [fault, *setting_checks.of_names()]


def _repair(found: list[Finding]) -> list[Finding]:
    """Make the repairs that the findings name; returns one finding for each."""
    done: list[Finding] = []
    for finding in found:
        match finding.repair:
            case findings_.Repair.MIGRATE:
                migrate.upgrade(connections.load_config())
                done.append(findings_.ok("fixed", f"the schema was migrated ({finding.message})"))
            case findings_.Repair.NO_EVICTION:
                connections.run_async(_stop_eviction)
                done.append(findings_.ok("fixed", "maxmemory-policy is noeviction until a restart"))
            case None:
                pass
    return done


async def _stop_eviction() -> None:
    config = connections.load_config()
    redis = jobs.redis_pool(
        servers.server_urls(config).redis, ssl_cert_reqs=config.redis_ssl_cert_reqs
    )
    try:
        await cast("Any", redis).config_set("maxmemory-policy", "noeviction")
    finally:
        await redis.aclose(close_connection_pool=True)


async def _examine(config: Config, urls: ServerUrls) -> list[Finding]:
    redis = jobs.redis_pool(urls.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)
    loaded = registry.load(config)
    disabled = [
        (job.name, reason)
        for job in loaded.jobs
        if (reason := job.disabled_reason(config)) is not None
    ]
    declared = [schedule.key for schedule in loaded.declared]
    faults = registry.recipe_faults(config)
    findings = setting_checks.of_references(
        config, dict.fromkeys([*declared, *loaded.names()]), registry.source_names(config)
    )
    pool: db.Pool | None = None
    try:
        pool = await db.open_pool(urls.database, size=2, wait_seconds=0)
    except connections.POSTGRES_FAULTS as error:
        what, _, fix = server_faults.postgres_sentence(error).rpartition("): ")
        findings.append(findings_.fault("postgres", f"{what})", fix))
    try:
        return findings + await checks.run_checks(
            checks.DiagnosticTargets(config, pool, redis, disabled, declared, loaded.faults, faults)
        )
    finally:
        await redis.aclose(close_connection_pool=True)
        if pool is not None:
            await pool.close()


def _show(findings: list[Finding]) -> None:
    from rich.table import Table  # noqa: PLC0415 - not imported for `--help`

    table = Table(box=None, show_header=False)
    for finding in findings:
        style = _STYLES[finding.level]
        fix = f"\n[dim]-> {terminal.markup(finding.fix)}[/]" if finding.fix else ""
        message = terminal.markup(finding.message)
        table.add_row(
            f"[{style}]{finding.level}[/]", terminal.markup(finding.subject), f"{message}{fix}"
        )
    terminal.console(markup=True).print(table)
