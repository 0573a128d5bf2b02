"""A collection's run, asked for again by an operator, as its organisation would ask for it."""

from typing import Any
from uuid import UUID

from app import backlog, collection, telling
from app.access import Principal
from app.collection import Asked
from app.commands import asking
from app.store import beats
from app.terminal import Reach
from app.words import Scope

OPERATOR = UUID(int=0)  # no token's


async def again(reach: Reach, old: dict[str, Any], by: str, *, wait: bool, plain: bool) -> None:
    """Queue a run of the collection whose run this was: of what it has chosen by now.

    Raises Conflicting while one is open or nothing is chosen, OverLimit if the day's are used up.
    """
    who = Principal(old["org_id"], "house", OPERATOR, by, Scope.ADMIN)
    asked = Asked(who, await beats.database_now(reach.pool))
    queued = await collection.run(reach.pool, reach.config, asked)
    await telling.tell(reach.pool, reach.redis, [queued])
    await backlog.admit(reach.redis)
    await asking.say(reach, queued.run_id, queued.job, wait=wait, plain=plain)
