"""The places of keys: what is done for each partition of a source reads its own keys only."""

from app.sources.recipes.collisions import KeyPlaces

PARTITIONS = 100


class Name(str):
    """The name of a partition, which counts how often names are compared."""

    __slots__ = ()
    compared = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        Name.compared += 1
        return str.__ne__(self, other)


def test_a_partition_is_begun_and_kept_without_a_look_at_the_keys_of_others() -> None:
    places = KeyPlaces()
    for number in range(PARTITIONS):
        places.note([f"{number}:{key}" for key in range(10)], Name(number), 1)
    Name.compared = 0

    kept = places.packed(Name(7))
    places.forget(Name(8))

    assert kept
    assert Name.compared < PARTITIONS


def test_a_forgotten_partition_leaves_the_keys_of_others() -> None:
    places = KeyPlaces()
    places.note(["a", "b"], "one", 1)
    places.note(["b", "c"], "two", 1)

    places.forget("two")
    places.note(["c"], "three", 2)

    restored = KeyPlaces()
    for partition in ("one", "two", "three"):
        restored.restore(partition, places.packed(partition) or b"\x80")
    assert [restored.packed(each) for each in ("one", "two", "three")] == [
        places.packed(each) for each in ("one", "two", "three")
    ]
    assert places.packed("two") == b""
    assert b"\xa1c" in places.packed("three")
