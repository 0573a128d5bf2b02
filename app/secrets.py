"""Secrets of organisations: set, named and deleted by them, and read by nobody but a run."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from pydantic import SecretStr

from app import safe as safes
from app.config import Config
from app.errors import Auth, BadParameters, BadRecipe, OverLimit
from app.fetch.openings import Resolve
from app.recipes.load import foreign
from app.recipes.load import secrets as references
from app.recipes.model import Recipe
from app.safe import Safe
from app.store import secrets as store
from app.store.db import Pool
from app.store.tenancy import org_transaction

KIND = "secret"  # what an organisation's recipe says before a secret's name
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
LONGEST = 8_000  # characters
MOST = 100  # of one organisation


async def put(
    pool: Pool, safe: Safe, org_id: UUID, secret: tuple[str, SecretStr], now: datetime
) -> None:
    """Keep a secret (name, value), in place of the one of that name.

    Raises BadParameters for a name or value that cannot be, and OverLimit.
    """
    name, value = _checked(*secret)
    async with org_transaction(pool, org_id) as connection:
        known = [known for known, _ in await store.names(connection, org_id)]
        if name not in known and len(known) >= MOST:
            raise OverLimit(f"secrets: {len(known)} of at most {MOST} are in use; delete one")
        await store.put(connection, org_id, name, safe.seal(org_id, name, value), now)


async def delete(pool: Pool, org_id: UUID, name: str) -> bool:
    """Forget a secret; false if there was none of that name."""
    async with org_transaction(pool, org_id) as connection:
        return await store.delete(connection, org_id, name)


async def names(pool: Pool, org_id: UUID) -> list[tuple[str, datetime]]:
    """The names of an organisation's secrets, and when each was last set. Never their values."""
    async with org_transaction(pool, org_id) as connection:
        return await store.names(connection, org_id)


async def resolve(
    pool: Pool, safe: Safe, org_id: UUID, wanted: Iterable[str]
) -> Mapping[str, SecretStr]:
    """The values of an organisation's secrets of these names, for a run of its own.

    Raises Auth, which names those that are not set, and BadConfig if the key does not open one.
    """
    asked = sorted(set(wanted))
    async with org_transaction(pool, org_id) as connection:
        found = await store.sealed(connection, org_id, asked)
    missing = [name for name in asked if name not in found]
    if missing:
        raise Auth(
            f"secret:{', secret:'.join(missing)} is not set; set it under /collection/secrets"
        )
    return {name: safe.opened(org_id, name, sealed) for name, sealed in found.items()}


async def resolver(pool: Pool, config: Config, org_id: UUID, recipe: Recipe) -> Resolve:
    """Gives the secrets that a recipe of the organisation names: its own, and no other.

    Raises BadRecipe if it names any other, else as `resolve`, and BadConfig for want of a key.
    """
    faults = foreign(recipe, KIND)
    if faults:
        raise BadRecipe(faults)
    wanted = [reference.partition(":")[2] for reference in references(recipe)]
    values: Mapping[str, SecretStr] = {}
    if wanted:
        values = await resolve(pool, safes.of(config), org_id, wanted)
    return lambda reference: values[reference.partition(":")[2]]


async def reseal(pool: Pool, safe: Safe, now: datetime) -> int:
    """Seal with the first key what older ones have sealed; returns how many. Then drop those."""
    count = 0
    async with pool.acquire() as connection, connection.transaction():
        for org_id, name, sealed in await store.everything(connection):
            if not safe.current(sealed):
                value = safe.opened(org_id, name, sealed)
                await store.put(connection, org_id, name, safe.seal(org_id, name, value), now)
                count += 1
    return count


def _checked(name: str, value: SecretStr) -> tuple[str, SecretStr]:
    if not NAME.fullmatch(name):
        raise BadParameters(
            "name: must be a letter, then letters, digits and _, 60 characters at most"
        )
    text = value.get_secret_value()
    if not text or len(text) > LONGEST:
        raise BadParameters(f"value: must have from 1 to {LONGEST} characters")
    if any(not character.isprintable() for character in text):
        raise BadParameters("value: must not have line breaks or other control characters")
    return name, value
