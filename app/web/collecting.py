"""What people do to their organisation's collection from the page, done as its API does it."""

from uuid import UUID

from starlette.exceptions import HTTPException

from app import collection
from app.collection import Asked
from app.errors import Conflicting, NotThere, OverLimit
from app.ledger import Queued
from app.store import beats
from app.web.desk import Desk
from app.web.visitors import Visitor


async def run(desk: Desk, visitor: Visitor) -> tuple[UUID, list[Queued]]:
    """Queue a run at once; gives which it is, or which is open already, and what to tell Redis.

    Raises HTTPException: 409 if nothing is chosen, 429 if the day's runs are used up.
    """
    try:
        queued = await collection.run(desk.pool, desk.config, await _asked(desk, visitor))
    except Conflicting as error:
        if error.run_id is None:
            raise HTTPException(409, _sentence(error)) from None
        return error.run_id, []
    except OverLimit as error:
        raise HTTPException(429, _sentence(error)) from None
    return queued.run_id, [queued]


async def pause(desk: Desk, visitor: Visitor, note: str) -> list[Queued]:
    """Let the schedule rest. Returns runs that were due before. Raises HTTPException 404."""
    asked = await _asked(desk, visitor)
    try:
        return (await collection.pause(desk.pool, desk.config, asked, note)).queued
    except NotThere as error:
        raise HTTPException(404, _sentence(error)) from None


async def resume(desk: Desk, visitor: Visitor) -> list[Queued]:
    """Let the schedule go on. Returns runs that were due before. Raises HTTPException 404."""
    asked = await _asked(desk, visitor)
    try:
        return (await collection.resume(desk.pool, desk.config, asked, None)).queued
    except NotThere as error:
        raise HTTPException(404, _sentence(error)) from None


async def _asked(desk: Desk, visitor: Visitor) -> Asked:
    return Asked(visitor.principal, await beats.database_now(desk.pool))


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
