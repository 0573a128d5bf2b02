"""An organisation's secrets: written, never read back, and of no use anywhere else."""

import asyncio
import base64
import secrets as random
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from app.core import config as settings
from app.core.config import Config
from app.core.errors import Auth, BadConfig, BadParameters, OverLimit
from app.orgs import secret_box, secrets
from app.orgs.secret_box import SecretBox
from app.store.db import Pool
from app.store.tenancy import org_transaction

NOW = datetime(2026, 9, 5, 12, tzinfo=UTC)
VALUE = SecretStr("s3cr3t-of-acme")


def a_safe(*keys: bytes) -> SecretBox:
    return SecretBox(keys or (b"k" * 32,))


async def an_org(pool: Pool, name: str) -> UUID:
    org_id = uuid4()
    await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, $2)", org_id, name)
    return org_id


async def test_a_secret_is_kept_sealed_and_opens_for_its_own_run_only(pool: Pool) -> None:
    acme, other = await an_org(pool, "Acme"), await an_org(pool, "Other")

    await secrets.put(pool, a_safe(), acme, ("TOKEN", VALUE), NOW)

    assert await secrets.names(pool, acme) == [("TOKEN", NOW)]
    assert await secrets.names(pool, other) == []
    kept = await pool.fetchval("SELECT ciphertext FROM org_secrets")
    assert b"s3cr3t" not in kept
    found = await secrets.resolve(pool, a_safe(), acme, ["TOKEN", "TOKEN"])
    assert found["TOKEN"].get_secret_value() == "s3cr3t-of-acme"
    with pytest.raises(Auth, match="secret:NONE, secret:TOKEN is not set"):
        await secrets.resolve(pool, a_safe(), other, ["TOKEN", "NONE"])


async def test_a_sealed_secret_moved_to_another_row_opens_no_more(pool: Pool) -> None:
    acme, other = await an_org(pool, "Acme"), await an_org(pool, "Other")
    await secrets.put(pool, a_safe(), acme, ("TOKEN", VALUE), NOW)

    await pool.execute(
        "INSERT INTO org_secrets SELECT $1, name, ciphertext, updated_at FROM org_secrets", other
    )
    await pool.execute("UPDATE org_secrets SET name = 'MOVED' WHERE org_id = $1", acme)

    for org_id, name in ((other, "TOKEN"), (acme, "MOVED")):
        with pytest.raises(BadConfig, match="SECRETS_KEY does not decrypt the secret"):
            await secrets.resolve(pool, a_safe(), org_id, [name])


async def test_postgres_itself_hides_the_secrets_of_others(pool: Pool) -> None:
    acme, other = await an_org(pool, "Acme"), await an_org(pool, "Other")
    await secrets.put(pool, a_safe(), acme, ("TOKEN", VALUE), NOW)

    async with org_transaction(pool, other) as connection:
        assert await connection.fetch("SELECT * FROM org_secrets") == []
        assert await connection.execute("DELETE FROM org_secrets") == "DELETE 0"

    assert await secrets.delete(pool, other, "TOKEN") is False
    assert await secrets.delete(pool, acme, "TOKEN") is True
    assert await secrets.names(pool, acme) == []


async def test_keys_are_changed_by_putting_the_new_one_first(pool: Pool) -> None:
    acme, old, new = await an_org(pool, "Acme"), b"o" * 32, b"n" * 32
    await secrets.put(pool, a_safe(old), acme, ("TOKEN", VALUE), NOW)

    assert await secrets.resolve(pool, a_safe(new, old), acme, ["TOKEN"]) == {"TOKEN": VALUE}
    with pytest.raises(BadConfig, match="does not decrypt"):
        await secrets.resolve(pool, a_safe(new), acme, ["TOKEN"])
    assert await secrets.reseal(pool, a_safe(new, old), NOW) == 1
    assert await secrets.reseal(pool, a_safe(new, old), NOW) == 0
    assert await secrets.resolve(pool, a_safe(new), acme, ["TOKEN"]) == {"TOKEN": VALUE}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x") for name in ("", "1A", "A-B", "A" * 61)),
        *(("A", value) for value in ("", "x" * 8_001, "x\ny")),
    ],
)
async def test_a_name_or_value_that_cannot_be_is_refused_without_its_value(
    pool: Pool, name: str, value: str
) -> None:
    acme = await an_org(pool, "Acme")

    with pytest.raises(BadParameters, match=r"^(name|value): must"):
        await secrets.put(pool, a_safe(), acme, (name, SecretStr(value)), NOW)


async def test_an_organisation_has_a_hundred_secrets_at_most(pool: Pool) -> None:
    acme = await an_org(pool, "Acme")
    for number in range(secrets.MAX_SECRETS):
        await secrets.put(pool, a_safe(), acme, (f"T{number}", VALUE), NOW)

    await secrets.put(pool, a_safe(), acme, ("T7", VALUE), NOW)
    with pytest.raises(OverLimit, match="100 of at most 100"):
        await secrets.put(pool, a_safe(), acme, ("ONE_MORE", VALUE), NOW)


def config(key: str | None) -> Config:
    result = {} if key is None else {"secrets_key": SecretStr(key)}
    return Config(_env_file=None, **result)  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword


def test_without_a_key_it_is_said_which_setting_to_set() -> None:
    with pytest.raises(BadConfig, match=r"SECRETS_KEY is not set: .*token_urlsafe\(32\)"):
        secret_box.from_config(config(None))


def test_a_key_is_thirty_two_bytes_in_either_base64_and_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = random.token_urlsafe(32), base64.b64encode(b"\xfb" * 32).decode()

    made = secret_box.from_config(config(f"{first}, {second}"))

    assert len(made.keys) == 2
    assert first not in repr(made)
    for wrong in ("short", f"{first},", "é" * 43, "*" * 43):
        monkeypatch.setenv("SECRETS_KEY", wrong)
        with pytest.raises(BadConfig, match="32 bytes in base64") as refused:
            settings.load()
        assert wrong not in str(refused.value)


async def test_a_hundred_are_the_limit_for_those_who_come_at_once_too(pool: Pool) -> None:
    acme = await an_org(pool, "Acme")

    ends = await asyncio.gather(
        *(secrets.put(pool, a_safe(), acme, (f"S{n}", VALUE), NOW) for n in range(108)),
        return_exceptions=True,
    )

    assert sum(isinstance(end, OverLimit) for end in ends) == 8
    assert len(await secrets.names(pool, acme)) == 100
