"""What operators do with any job and run: their own jobs, and organisations' collections.

Commands, pages and the API call these functions. A collection is steered by the rules of its API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from app.core.collection_keys import collection_name, is_collection, owner_id
from app.core.config import Config
from app.core.enums import COLLECTION_TASK, OPEN_STATUSES
from app.core.errors import BadParameters, BadSchedule, InvalidValue, UnknownJob, WrongState
from app.ledger import edit, manual_runs
from app.ledger.manual_runs import Act, WantedRun
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.scheduling.policies import Policies
from app.store.db import Pool
from app.store.runs.run_rows import QueuedRun

RunRow = Mapping[str, Any]  # of the listing of runs


@dataclass(frozen=True, slots=True)
class Steering:
    """Postgres, the settings, and the policies of a job that has no schedule."""

    pool: Pool
    config: Config
    default: Policies

    async def pause(self, key: str, act: Act, until: datetime | None = None) -> list[QueuedRun]:
        """Pause a schedule, until then or until it is resumed; returns runs that were due before.

        Raises UnknownJob, InvalidValue if `until` is in the past, and WrongState if it is retired
        or paused by somebody else.
        """
        _check_future(until, act, "until")
        if (owner := owner_of(key)) is not None:
            asked = _of_collection(key, owner, act)
            change = await collection.pause(self.pool, self.config, asked, act.reason, until)
            return change.queued
        return await edit.pause(self.pool, key, act.now, by=act.by, note=act.reason, until=until)

    async def resume(self, key: str, act: Act) -> list[QueuedRun]:
        """Resume a paused schedule; returns runs that were due before. Raises UnknownJob."""
        if (owner := owner_of(key)) is not None:
            asked = _of_collection(key, owner, act)
            reason = act.reason or None
            return (await collection.resume(self.pool, self.config, asked, reason)).queued
        return await edit.resume(self.pool, key, act.now, by=act.by, note=act.reason)

    async def run(self, wanted: WantedRun, act: Act) -> QueuedRun:
        """Request a run by hand; it is still to be enqueued.

        Raises InvalidValue if it is to start in the past, and WrongState if the schedule is retired
        or cannot be read; of a collection, which takes neither parameters nor a start,
        BadParameters, Conflict and OverLimit.
        """
        _check_future(wanted.at, act, "at")
        if (owner := owner_of(wanted.job)) is not None:
            if wanted.params or wanted.at is not None:
                raise BadParameters("a collection runs now, with its own selection of sources")
            asked = _of_collection(wanted.job, owner, act)
            asked = replace(asked, reason=act.reason, retry_of=wanted.retry_of)
            return await collection.request_run(self.pool, self.config, asked)
        if wanted.task == COLLECTION_TASK:
            raise UnknownJob(f"there is no schedule {wanted.job!r}")
        try:
            return await manual_runs.request(self.pool, wanted, act, self.default)
        except BadSchedule as error:
            raise WrongState(f"the schedule cannot be read: {error}") from None

    async def retry(self, run: RunRow, act: Act, run_id: UUID | None = None) -> QueuedRun:
        """Request a new run like one that has ended; it is still to be enqueued.

        `run_id`: of the new one. That of a collection uses its present sources.
        Raises WrongState if the run has not ended, and what `run` raises.
        """
        if run["status"] in OPEN_STATUSES:
            raise WrongState(f"run {run['execution_id']} has not ended yet; cancel it first")
        retry_of: UUID = run["execution_id"]
        if run["org_id"] is not None:
            return await self.run(WantedRun(run["job"], run["task"], retry_of=retry_of), act)
        params, new_id = dict(run["params"]), run_id or uuid4()
        wanted = WantedRun(run["job"], run["task"], params, run_id=new_id, retry_of=retry_of)
        return await self.run(wanted, act)

    async def cancel(self, runs: Sequence[RunRow], act: Act) -> list[UUID]:
        """Cancel those of the runs that are open; returns their ids."""
        return await manual_runs.cancel(self.pool, runs, act)


def owner_of(key: str) -> UUID | None:
    """Return the organisation whose collection the schedule is; None if it is the operator's."""
    if not is_collection(key):
        return None
    try:
        return owner_id(key)
    except ValueError:
        raise UnknownJob(f"there is no schedule {key!r}") from None


def _of_collection(key: str, owner: UUID, act: Act) -> CollectionRequest:
    return CollectionRequest(owner, act.by, act.now, collection=collection_name(key))


def _check_future(at: datetime | None, act: Act, name: str) -> None:
    if at is not None and at <= act.now:
        raise InvalidValue(name, f"{at.isoformat()} is in the past")
