"""Operator retries of a collection run, under the organisation's own limits."""

from typing import Any
from uuid import UUID

from app import backlog, collection, telling
from app.access import Principal
from app.collection import Asked
from app.commands import asking
from app.store import beats
from app.terminal import Reach
from app.words import Scope

_OPERATOR_TOKEN_ID = UUID(int=0)  # belongs to no token


async def again(context: Reach, old: dict[str, Any], by: str, *, wait: bool, as_json: bool) -> None:
    """Queue a run of the collection that `old` belongs to, with its present selection of sources.

    With `wait`, follow the run and raise typer.Exit with the exit code of its status.
    Raises Conflicting if a run is open or nothing is selected, and OverLimit if the organisation
    has used up its runs of the day.
    """
    principal = Principal(old["org_id"], "house", _OPERATOR_TOKEN_ID, by, Scope.ADMIN)
    request = Asked(principal, await beats.database_now(context.pool))
    queued = await collection.run(context.pool, context.config, request)
    await telling.tell(context.pool, context.redis, [queued])
    await backlog.admit(context.redis)
    await asking.say(context, queued.run_id, queued.job, wait=wait, as_json=as_json)
