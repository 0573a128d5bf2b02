"""Organisations' secrets: set, list, delete, resolve for a run, and re-encrypt after a new key."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from pydantic import SecretStr

from app.core.config import Config
from app.core.errors import Auth, BadParameters, BadRecipe, OverLimit
from app.fetch.recipe_clients import SecretResolver
from app.orgs import alert_channels, secret_box, webhooks
from app.orgs.secret_box import SecretBox
from app.sources.recipes.load import disallowed_secrets
from app.sources.recipes.load import secret_references as references
from app.sources.recipes.model import Recipe
from app.store.db import Pool
from app.store.orgs import alert_channels as stored_channels
from app.store.orgs import collection, org_secrets
from app.store.orgs import webhooks as stored_webhooks
from app.store.tenancy import org_transaction

REFERENCE_PREFIX = "secret"  # the prefix of secret references in an organisation's recipes
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
MAX_CHARS = 8_000  # characters
MAX_SECRETS = 100  # secrets per organisation


async def put(
    pool: Pool, box: SecretBox, org_id: UUID, secret: tuple[str, SecretStr], now: datetime
) -> None:
    """Store a secret (name, value), encrypted; replaces one with the same name.

    Raises BadParameters for an invalid name or value, and OverLimit for more than MOST secrets.
    """
    name, value = _checked(*secret)
    async with org_transaction(pool, org_id) as connection:
        await collection.lock_org(connection, org_id)  # one at a time, so that the count holds
        names = [stored for stored, _ in await org_secrets.names(connection, org_id)]
        if name not in names and len(names) >= MAX_SECRETS:
            raise OverLimit(
                f"secrets: {len(names)} of at most {MAX_SECRETS} are in use; delete one"
            )
        await org_secrets.put(connection, org_id, name, box.seal(org_id, name, value), now)


async def delete(pool: Pool, org_id: UUID, name: str) -> bool:
    async with org_transaction(pool, org_id) as connection:
        return await org_secrets.delete(connection, org_id, name)


async def names(pool: Pool, org_id: UUID) -> list[tuple[str, datetime]]:
    """Return the names of an organisation's secrets, and when each was last set."""
    async with org_transaction(pool, org_id) as connection:
        return await org_secrets.names(connection, org_id)


async def resolve(
    pool: Pool, box: SecretBox, org_id: UUID, names: Iterable[str]
) -> Mapping[str, SecretStr]:
    """Return the values of the organisation's secrets with these names, for a run of its own.

    Raises Auth, which names those that are not set, and BadConfig if no key decrypts one of them.
    """
    requested = sorted(set(names))
    async with org_transaction(pool, org_id) as connection:
        found = await org_secrets.sealed(connection, org_id, requested)
    missing = [name for name in requested if name not in found]
    if missing:
        raise Auth(
            f"secret:{', secret:'.join(missing)} is not set; set it under /collection/secrets"
        )
    return {name: box.open(org_id, name, sealed) for name, sealed in found.items()}


async def resolver(pool: Pool, config: Config, org_id: UUID, recipe: Recipe) -> SecretResolver:
    """Return a function from secret reference to value, for a recipe of the organisation.

    Raises BadRecipe if the recipe references anything but the organisation's secrets, BadConfig if
    SECRETS_KEY is not set, and what `resolve` raises.
    """
    faults = disallowed_secrets(recipe, REFERENCE_PREFIX)
    if faults:
        raise BadRecipe(faults)
    referenced = [reference.partition(":")[2] for reference in references(recipe)]
    values: Mapping[str, SecretStr] = {}
    if referenced:
        values = await resolve(pool, secret_box.from_config(config), org_id, referenced)
    return lambda reference: values[reference.partition(":")[2]]


async def reseal(pool: Pool, box: SecretBox, now: datetime) -> int:
    """Re-encrypt with the first key what older keys encrypted; return the number of secrets.

    Those of webhooks and URLs of alert channels too. The older keys can be removed from SECRETS_KEY
    afterwards.
    """
    count = 0
    async with pool.acquire() as connection, connection.transaction():
        for org_id, name, sealed in await org_secrets.lock_all(connection):
            if (resealed := box.resealed(org_id, name, sealed)) is not None:
                await org_secrets.put(connection, org_id, name, resealed, now)
                count += 1
        for table, named in (
            (stored_webhooks, webhooks.secret_name),
            (stored_channels, alert_channels.secret_name),
        ):
            for row_id, org_id, sealed in await table.lock_all(connection):
                if (resealed := box.resealed(org_id, named(row_id), sealed)) is not None:
                    await table.set_secret(connection, row_id, resealed)
                    count += 1
    return count


def _checked(name: str, value: SecretStr) -> tuple[str, SecretStr]:
    if not NAME.fullmatch(name):
        raise BadParameters(
            "name: must be a letter followed by letters, digits and _, at most 60 characters"
        )
    text = value.get_secret_value()
    if not text or len(text) > MAX_CHARS:
        raise BadParameters(f"value: must have 1 to {MAX_CHARS} characters")
    if any(not character.isprintable() for character in text):
        raise BadParameters("value: must not contain line breaks or other control characters")
    return name, value
