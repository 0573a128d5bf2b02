"""Organisations with a schedule and a preset, and runs of theirs, in this process."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from app.context import WorkerContext
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.orgs import tokens
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from tests import worker_harness
from workers.collection import collection
from workers.execute import execute

ODDS = UUID("00000000-0000-4000-8000-000000000001")
NEWS = UUID("00000000-0000-4000-8000-000000000002")

CHOOSE = "UPDATE schedules SET org_id = $2, preset_id = $3 WHERE key = $1 RETURNING id"
PRESET = (
    "INSERT INTO collection_presets (id, org_id, name, sources, revision) VALUES ($1,$2,$3,$4,1)"
)
RUN = """
INSERT INTO runs (execution_id, job, schedule_id, org_id, trigger, params, status, attempt, losses,
                  max_attempts, timeout_seconds, lease_epoch, queued_at, stats)
VALUES ($1, 'collection', $2, $3, 'manual', '{}', 'queued', 1, 0, 3, $4, 0, now(), '{}')
"""


@dataclass(frozen=True, slots=True)
class Client:
    """An organisation with a schedule, which has chosen a preset or none."""

    context: WorkerContext
    name: str
    org_id: UUID
    schedule_id: int

    @property
    def key(self) -> str:
        """Its schedule's."""
        return f"collection:{self.org_id}"

    async def queue(self, *, seconds: float = 60) -> UUID:
        """A run asked for by hand; returns its id."""
        run_id = uuid4()
        await self.context.pool.execute(RUN, run_id, self.schedule_id, self.org_id, seconds)
        return run_id

    async def run(self, run_id: UUID | None = None, **asked: Any) -> dict[str, Any]:
        """Do a run, as a worker would; returns its row, with its sources by name."""
        run_id = run_id or await self.queue(**asked)
        await execute(worker_harness.ctx_of(self.context), collection, str(run_id))
        return await self.run_row(run_id)

    async def run_row(self, run_id: UUID) -> dict[str, Any]:
        """The run's row, with its sources by name."""
        pool = self.context.pool
        row = await worker_harness.run_row(pool, run_id)
        return row | {"sources": await worker_harness.source_rows(pool, run_id)}

    async def choose(self, *sources: dict[str, Any], name: str = "own") -> None:
        """Choose a preset of its own with these sources."""
        preset = uuid4()
        await self.context.pool.execute(PRESET, preset, self.org_id, name, list(sources))
        await self.context.pool.execute(CHOOSE, self.key, self.org_id, preset)

    async def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Its items, by source and key."""
        return await items_of(self.context.pool, self.org_id)

    async def limit(self, **limits: float) -> None:
        """Give it limits of its own."""
        sql = "UPDATE organizations SET limits = $2 WHERE id = $1"
        await self.context.pool.execute(sql, self.org_id, limits)


async def items_of(pool: Pool, org_id: UUID) -> dict[tuple[str, str], dict[str, Any]]:
    rows = await pool.fetch("SELECT * FROM items WHERE org_id = $1 ORDER BY source, key", org_id)
    return {(row["source"], row["key"]): dict(row) for row in rows}


async def client(
    context: WorkerContext,
    name: str = "Acme",
    preset: UUID | None = ODDS,
    schedule: Schedule | None = None,
) -> Client:
    """An organisation that collects by this schedule; else so seldom that no test meets it."""
    org_id = await tokens.create_org(context.pool, name, context.clock())
    key = f"collection:{org_id}"
    policies = Policies(misfire_grace=timedelta(hours=1), timeout=900)
    when = schedule or Schedule.cron("0 3 29 2 *", name=key)
    await edit.edit(
        context.pool, DeclaredSchedule(key, "collection", when, policies), context.clock()
    )
    schedule_id: int = await context.pool.fetchval(CHOOSE, key, org_id, preset)
    return Client(context, name, org_id, schedule_id)
