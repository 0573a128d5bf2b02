"""The keys of organisations' schedules: `collection:<org>`, and `collection:<org>:<name>`."""

from uuid import UUID

from app.core.enums import COLLECTION_TASK

DEFAULT_COLLECTION = "default"  # the collection without a name of its own
_PREFIX = f"{COLLECTION_TASK}:"


def schedule_key(org_id: UUID, collection: str = DEFAULT_COLLECTION) -> str:
    """Return the key of a collection's schedule."""
    key = f"{_PREFIX}{org_id}"
    return key if collection == DEFAULT_COLLECTION else f"{key}:{collection}"


def is_collection(key: str) -> bool:
    """Whether it is the key of an organisation's schedule."""
    return key.startswith(_PREFIX)


def owner_id(key: str) -> UUID:
    """Return the organisation of a collection's key. Raises ValueError if it names none."""
    return UUID(key.removeprefix(_PREFIX).partition(":")[0])


def collection_name(key: str) -> str:
    """Return the name of the collection whose schedule has this key."""
    return key.removeprefix(_PREFIX).partition(":")[2] or DEFAULT_COLLECTION
