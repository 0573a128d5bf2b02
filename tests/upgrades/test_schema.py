"""A process that finds a schema other than the required one stops and names the remedy."""

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
DOORS = {
    "worker": ("-m", "app.workers"),
    "worker of arq": ("-m", "arq", "app.workers.Settings"),
    "web": ("-m", "uvicorn", "app.web:app", "--port", "0"),
    "runs": ("-m", "app", "runs"),
    "status": ("-m", "app", "status"),
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
async def test_a_process_stops_at_a_newer_schema_and_names_both(
    pool: Pool, env: dict[str, str], tmp_path: Path, door: str
) -> None:
    await pool.execute("UPDATE alembic_version SET version_num = '9999'")

    code, output = await ended(door, env, tmp_path)

    assert code == 2
    assert "schema is 9999" in output
    assert f"knows only {schema.required_revision()}, which is older" in output


def test_an_older_schema_is_to_be_migrated() -> None:
    error = schema.revision_error("0001", ("0001", "0002"))

    assert error is not None
    assert "schema is 0001, and this code requires 0002, which is newer" in error
    assert "rollcall migrate" in error


def test_a_newer_schema_needs_newer_code_or_a_backup_of_this_one() -> None:
    error = schema.revision_error("0003", ("0001", "0002"))

    assert error is not None
    assert "schema is 0003, and this code knows only 0002, which is older" in error
    assert "restore a backup with schema 0002." in error


def test_the_required_schema_is_no_error() -> None:
    assert schema.revision_error("0002", ("0001", "0002")) is None


async def test_a_database_without_tables_says_to_migrate(pool: Pool) -> None:
    await pool.execute("DROP TABLE alembic_version")

    with pytest.raises(WrongSchema, match=r"no schema yet.*rollcall migrate"):
        await schema.check(pool)


async def test_the_schema_of_this_code_is_fine(pool: Pool) -> None:
    await schema.check(pool)

    assert await schema.database_revision(pool) == schema.required_revision()
