"""Who meets another schema than its own stops, and says what mends it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from app.core.errors import WrongSchema
from app.store import schema
from app.store.db import Pool

ROOT = Path(__file__).parents[2]
EXIT = {"worker": 2, "web": 3}  # uvicorn has its own
DOORS = {
    "worker": ("-m", "arq", "app.workers.Settings"),
    "web": ("-m", "uvicorn", "app.web:app", "--port", "0"),
}


@pytest.fixture
def env(dsn: str, redis_url: str, redis: ArqRedis) -> dict[str, str]:
    del redis
    return {
        "PATH": os.environ["PATH"],  # noqa: TID251 - the child's
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
    }


async def ended(door: str, env: dict[str, str], folder: Path) -> tuple[int | None, str]:
    """Start it; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *DOORS[door]),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, said.decode()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("has", "said"), [("0004", "is newer"), ("9999", "is older")])
async def test_another_schema_stops_it_with_both_names_and_the_mend(
    pool: Pool, env: dict[str, str], tmp_path: Path, door: str, has: str, said: str
) -> None:
    await pool.execute("UPDATE alembic_version SET version_num = $1", has)

    code, words = await ended(door, env, tmp_path)

    assert code == EXIT[door]
    assert f"schema is {has}" in words
    assert schema.required_revision() in words
    assert said in words


async def test_a_database_without_tables_says_to_migrate(pool: Pool) -> None:
    await pool.execute("DROP TABLE alembic_version")

    with pytest.raises(WrongSchema, match=r"no schema yet.*python -m app migrate"):
        await schema.check(pool)


async def test_the_schema_of_this_code_is_fine(pool: Pool) -> None:
    await schema.check(pool)

    assert await schema.database_revision(pool) == schema.required_revision()
