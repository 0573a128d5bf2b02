"""The schedule's addresses: look, change, retire, rest and go on."""

from datetime import datetime
from typing import Any

from app import collection
from app.api import cursor, shapes
from app.api.desk import Answer, Asking
from app.collection import Asked, Deed
from app.scheduling import cron
from app.store import paged, tenancy
from app.store.collection import Standing


async def read_schedule(asking: Asking) -> Answer:
    """Say how the schedule stands; the defaults if there is none."""
    return _shown(await collection.look(asking.desk.pool, asking.who))


async def change_schedule(asking: Asking) -> Answer:
    """Change what is said of the schedule, and leave the rest; makes it if there is none."""
    body: shapes.ScheduleChange = asking.body
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "cron_expression" in changes:  # refused before anything is locked
        changes["cron_expression"] = cron.checked_expression(changes["cron_expression"])
    deed = await collection.edit(asking.desk.pool, asking.desk.config, _asked(asking), changes)
    return await _done(asking, deed)


async def retire_schedule(asking: Asking) -> Answer:
    """Retire the schedule: nothing is due any more, and its past stays."""
    deed = await collection.retire(asking.desk.pool, asking.desk.config, _asked(asking))
    await asking.desk.tell(deed.queued)
    return Answer()


async def read_pause(asking: Asking) -> Answer:
    """Say whether the schedule rests."""
    return _paused(await collection.look(asking.desk.pool, asking.who))


async def pause_schedule(asking: Asking) -> Answer:
    """Let the schedule rest; its instants are recorded as paused until it is resumed."""
    body: shapes.Pausing = asking.body
    desk = asking.desk
    deed = await collection.pause(desk.pool, desk.config, _asked(asking), body.note)
    await desk.tell(deed.queued)
    return _paused(deed.standing)


async def resume_schedule(asking: Asking) -> Answer:
    """Let a paused schedule go on."""
    body: shapes.Resuming = asking.body
    desk = asking.desk
    deed = await collection.resume(desk.pool, desk.config, _asked(asking), body.note)
    await desk.tell(deed.queued)
    return _paused(deed.standing)


async def list_edits(asking: Asking) -> Answer:
    """List who changed the schedule, the last first."""
    page: shapes.Paged = asking.query
    number = cursor.number(page.cursor)
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        rows = await paged.edits(connection, asking.org_id, page.limit + 1, number)
    shown, more = rows[: page.limit], len(rows) > page.limit
    edits = [shapes.Edit.model_validate(row) for row in shown]
    return Answer(
        shapes.Edits(edits=edits, next_cursor=cursor.after(edits[-1].id) if more else None)
    )


def _asked(asking: Asking) -> Asked:
    return Asked(asking.who, asking.now, asking.revision)


async def _done(asking: Asking, deed: Deed) -> Answer:
    await asking.desk.tell(deed.queued)
    return _shown(deed.standing)


def _shown(standing: Standing | None) -> Answer:
    choice = collection.chosen(standing)
    kept = None if standing is None or standing.retired_at is not None else standing
    body = shapes.Schedule(
        id=kept and kept.id,
        preset_id=choice.preset_id,
        preset_name=kept and kept.preset_name,
        cron_expression=choice.cron_expression,
        timezone=choice.timezone,
        enabled=choice.enabled,
        notify=choice.notify,
        last_run_at=kept and kept.last_run_at,
        last_status=kept and kept.last_status,  # pyright: ignore[reportArgumentType] - checked by the model
        next_run_at=_next(kept),
    )
    return Answer(body, {"etag": f'"{0 if standing is None else standing.revision}"'})


def _next(kept: Standing | None) -> datetime | None:
    waits = kept is not None and kept.enabled and kept.paused_at is None
    return kept.next_tick_at if kept is not None and waits else None


def _paused(standing: Standing | None) -> Answer:
    at = None if standing is None else standing.paused_at
    return Answer(
        shapes.Pause(
            paused=at is not None,
            paused_at=at,
            paused_by=standing and standing.paused_by,
            note=standing and standing.paused_note,
        ),
        {"etag": f'"{0 if standing is None else standing.revision}"'},
    )
