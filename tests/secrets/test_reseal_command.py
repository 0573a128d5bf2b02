"""`secret reseal`, while secrets are read and set."""

import asyncio
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from os import urandom
from uuid import uuid4

import pytest
from pydantic import SecretStr

from app.orgs import secrets
from app.orgs.secret_box import SecretBox
from app.store.db import Pool
from tests.commands.conftest import RollcallJson, rollcall, rollcall_json, surroundings

__all__ = ["rollcall", "rollcall_json", "surroundings"]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def text_of(key: bytes) -> str:
    return urlsafe_b64encode(key).decode().rstrip("=")


async def test_every_secret_is_sealed_with_the_new_key_while_others_are_read_and_set(
    pool: Pool, rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = urandom(32), urandom(32)
    orgs = [uuid4() for _ in range(3)]
    for org in orgs:
        await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, $2)", org, str(org))
        for number in range(20):
            secret = (f"key{number}", SecretStr(f"value {number}"))
            await secrets.put(pool, SecretBox([old]), org, secret, NOW)
    both = SecretBox([new, old])
    monkeypatch.setenv("SECRETS_KEY", f"{text_of(new)},{text_of(old)}")
    ended = asyncio.Event()

    async def load(number: int) -> int:
        rounds = 0
        while not ended.is_set():
            org, name = orgs[number % 3], f"key{number}"
            found = await secrets.resolve(pool, both, org, [name])
            assert found[name].get_secret_value() == f"value {number}"
            await secrets.put(pool, both, org, (name, found[name]), NOW)
            rounds += 1
        return rounds

    loads = [asyncio.create_task(load(number)) for number in range(4)]
    result = await rollcall_json("secret", "reseal")
    ended.set()
    rounds = await asyncio.gather(*loads)

    again = await rollcall_json("secret", "reseal")
    read = [
        await secrets.resolve(pool, SecretBox([new]), org, [f"key{n}" for n in range(20)])
        for org in orgs
    ]
    assert result["resealed"] >= 56
    assert again == {"resealed": 0}
    assert all(rounds)
    assert all(len(found) == 20 for found in read)
