"""Keys of one source in one run: a key that was found elsewhere is a collision. Pure."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from app.core.records import Item, Record, Rejected

_MAX_REJECTED_BYTES = 4_000  # bytes of a refused row that are stored


@dataclass(frozen=True, slots=True)
class _Place:
    partition: str
    page: int
    content: bytes | None  # None: the page is unchanged, and was not parsed again


@dataclass(slots=True)
class KeyPlaces:
    """Where the keys of a source's items were found in this run.

    A source may have thousands of partitions: what is done once for each reads only its own keys.
    """

    _places: dict[str, _Place] = field(default_factory=dict[str, _Place])
    _keys: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # by partition

    def forget(self, partition: str) -> None:
        """Forget a partition, which is read from its beginning again."""
        for key in self._keys.pop(partition, ()):
            del self._places[key]

    def packed(self, partition: str) -> bytes:
        """Return the places of a partition as bytes, which `restore` takes; empty without any."""
        found = {key: self._places[key] for key in self._keys.get(partition, ())}
        held = {key: (place.page, place.content) for key, place in found.items()}
        return msgspec.msgpack.encode(held) if held else b""

    def restore(self, partition: str, packed: bytes) -> None:
        """Add the places of a partition that an earlier attempt of the run has read."""
        held = msgspec.msgpack.decode(packed, type=dict[str, tuple[int, bytes | None]])
        for key, (page, content) in held.items():
            self._first(key, _Place(partition, page, content))

    def note(self, keys: Collection[str], partition: str, page: int) -> None:
        """Note the keys of a page that was not parsed again."""
        for key in keys:
            self._first(key, _Place(partition, page, None))

    def _first(self, key: str, here: _Place) -> _Place:
        """Return where the key was found first, which is here if it was not found before."""
        first = self._places.setdefault(key, here)
        if first is here:
            self._keys.setdefault(here.partition, []).append(key)
        return first

    def checked(self, records: Iterable[Record], partition: str, page: int) -> list[Record]:
        """Return the records; an item whose key other content has taken becomes Rejected.

        An item that is repeated with the same content stays: its list may have moved.
        """
        return [
            self._checked(record, partition, page) if isinstance(record, Item) else record
            for record in records
        ]

    def _checked(self, item: Item, partition: str, page: int) -> Record:
        here = _Place(partition, page, _content(item))
        first = self._first(item.key, here)
        if first is here or (first.partition, first.page) == (partition, page):
            return item
        # What an unchanged page of the same partition holds is not known, and it may have moved on.
        unknown = first.content is None and first.partition == partition
        if unknown or first.content == here.content:
            return item
        reason = (
            f"the key {item.key[:100]!r} is taken by another row:"
            f" {_shown(first)}; and here, {_shown(here)}"
        )
        return Rejected(reason, msgspec.json.encode(item.data)[:_MAX_REJECTED_BYTES], item.key)


def _content(item: Item) -> bytes:
    data = {name: value for name, value in item.data.items() if name not in item.ignore}
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).digest()[:16]


def _shown(place: _Place) -> str:
    return f"partition {place.partition[:60]!r}, page {place.page}"
