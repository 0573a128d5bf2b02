"""Names of collections for people: `acme / nightly`, where the key has the organisation's id."""

from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from app.core.collection_keys import collection_name, is_collection, owner_id
from app.store.db import Connection
from app.store.orgs import orgs
from app.web.dashboard.session_auth import SessionUser


async def labels(
    connection: Connection, user: SessionUser, keys: Iterable[str | None]
) -> dict[str, str]:
    """The names of the collections among these keys of schedules, by their keys."""
    owners: dict[str, UUID] = {}
    for key in filter(None, keys):
        if is_collection(key):
            with suppress(ValueError):
                owners[key] = owner_id(key)
    if user.org_id is not None:
        names = {user.org_id: user.principal.org}
    else:
        names = await orgs.names(connection, set(owners.values())) if owners else {}
    return {
        key: f"{names[owner]} / {collection_name(key)}"
        for key, owner in owners.items()
        if owner in names
    }
