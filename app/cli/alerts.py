"""The `alerts`, `acknowledge` and `unacknowledge` commands: what is unhealthy, and who knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import connections, terminal
from app.health.alerts import acknowledge as rules
from app.store.reports import acknowledgements
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.db import Pool

app = typer.Typer()

Alert = Annotated[str, typer.Argument(help="The job, or `scheduler`, as `alerts` lists it.")]
_LISTED = 500
_COLUMNS = (
    "job", "reason", "since", "alerted", "acknowledged_by", "acknowledged_at", "note", "until",
)  # fmt: skip


@app.command("alerts")
def list_alerts(*, as_json: terminal.JSON = False) -> None:
    """List what is unhealthy: since when, when it was alerted, and who has acknowledged it.

    Example: `rollcall alerts`
    """
    rows = connections.with_pool(lambda pool: acknowledgements.open_alerts(pool, _LISTED))
    listed = [
        {
            "job": row["key"],
            "status": row["status"],
            "reason": row["reason"],
            "detail": row["detail"],
            "since": row["ill_since"] or row["since"],
            "alerted": row["reminded_at"] or row["told_at"],
            "acknowledged_by": row["acknowledged_by"],
            "acknowledged_at": row["acknowledged_at"],
            "note": row["acknowledged_note"],
            "until": row["snoozed_until"],
        }
        for row in rows
    ]
    terminal.print_rows(listed, _COLUMNS, as_json=as_json)


@app.command("acknowledge")
def acknowledge(
    alert: Alert,
    note: Annotated[str, typer.Option(help="Why; `alerts` and the page of alerts show it.")],
    until: Annotated[
        str | None, typer.Option(help="Snooze until this instant instead; UTC if bare.")
    ] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Send no reminders of an alert until it recovers or gets worse, or a snooze ends.

    Examples: `rollcall acknowledge poll_news --note "the key is renewed at noon"`,
    `rollcall acknowledge poll_news --note "their maintenance" --until 2026-12-01T06:00`
    """
    note = terminal.parse_note(note)
    end = None if until is None else terminal.parse_instant(until)

    async def apply(pool: Pool) -> None:
        now = await heartbeats.database_now(pool)
        if end is not None and end <= now:
            raise typer.BadParameter(f"{until} is in the past", param_hint="--until")
        by = terminal.current_user()
        await rules.acknowledge(pool, alert, acknowledgements.Acknowledged(now, by, note, end))

    connections.with_pool(apply)
    done = {"job": alert, "acknowledged": True, "note": note, "until": end}
    ends = "it recovers or gets worse" if end is None else f"{terminal.format_value(end)} UTC"
    terminal.print_done(done, f"no reminder of {alert} is sent until {ends}", as_json=as_json)


@app.command("unacknowledge")
def unacknowledge(alert: Alert, *, as_json: terminal.JSON = False) -> None:
    """Send reminders of an acknowledged or snoozed alert again.

    Example: `rollcall unacknowledge poll_news`
    """

    async def apply(pool: Pool) -> None:
        now = await heartbeats.database_now(pool)
        await rules.release(pool, alert, now, terminal.current_user())

    connections.with_pool(apply)
    done = {"job": alert, "acknowledged": False}
    terminal.print_done(done, f"reminders of {alert} are sent again", as_json=as_json)
