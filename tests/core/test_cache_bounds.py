"""What an owner may keep in a cache in Redis: in number, in bytes, and all tenants together."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from app.core.cache_bounds import OPERATOR, UNKNOWN, CacheBounds

BOUNDS = CacheBounds(
    "t", seconds=600, operator=(5, 50_000), tenant=(3, 20_000), all_tenants=40_000
)  # fmt: skip

# Sizes just below a power of two or one of its quarters: what some allocators keep for a value
# is up to a quarter more than its bytes, and Redis counts it.


async def keep(redis: Redis, owner: str, name: str, size: int = 10) -> int:
    await cast("Any", redis).set(f"rollcall:t:{name}", "x" * size, ex=600)
    return await BOUNDS.apply(redis, owner, [f"rollcall:t:{name}"])


async def kept(redis: Redis) -> list[str]:
    names = [key async for key in cast("Any", redis).scan_iter("rollcall:t:*")]
    return sorted(name.decode().rpartition(":")[2] for name in names)


async def test_the_oldest_keys_of_an_owner_go_first(redis: Redis) -> None:
    removed = [await keep(redis, "a", name) for name in ("1", "2", "3", "4")]

    assert removed == [0, 0, 0, 1]
    assert await kept(redis) == ["2", "3", "4"]


async def test_an_owner_is_bounded_in_bytes(redis: Redis) -> None:
    for name in ("1", "2", "3"):
        await keep(redis, "a", name, 8_000)

    assert await kept(redis) == ["2", "3"]


async def test_a_key_that_is_written_again_counts_once(redis: Redis) -> None:
    for _ in range(5):
        await keep(redis, "a", "1", 8_000)
    await keep(redis, "a", "2", 8_000)

    assert await kept(redis) == ["1", "2"]


async def test_all_tenants_together_are_bounded_and_the_largest_gives_way(redis: Redis) -> None:
    await keep(redis, OPERATOR, "house", 40_000)
    await keep(redis, "small", "s", 12_000)
    await keep(redis, "large", "l", 16_000)
    assert await kept(redis) == ["house", "l", "s"]

    await keep(redis, "other", "o", 14_000)
    await keep(redis, "third", "t", 1_000)

    assert await kept(redis) == ["house", "o", "s", "t"]


async def test_what_has_expired_does_not_count(redis: Redis) -> None:
    await keep(redis, "a", "1", 16_000)
    await keep(redis, "b", "2", 16_000)
    any_ = cast("Any", redis)
    await any_.delete("rollcall:t:1", BOUNDS.index("a"))

    assert await keep(redis, "c", "3", 16_000) == 0
    assert await kept(redis) == ["2", "3"]


async def test_a_key_whose_owner_becomes_known_is_no_longer_among_the_unknown(
    redis: Redis,
) -> None:
    await keep(redis, UNKNOWN, "1")
    await keep(redis, OPERATOR, "1")
    for name in ("2", "3", "4"):
        await keep(redis, UNKNOWN, name)

    assert await kept(redis) == ["1", "2", "3", "4"]


async def test_a_key_that_is_gone_makes_room_for_the_next(redis: Redis) -> None:
    for name in ("1", "2", "3"):
        await keep(redis, "a", name)
    await cast("Any", redis).delete("rollcall:t:2")

    assert await keep(redis, "a", "4") == 0
    assert await kept(redis) == ["1", "3", "4"]


async def test_what_others_have_removed_does_not_count(redis: Redis) -> None:
    await keep(redis, "a", "1", 16_000)
    await keep(redis, "a", "2")
    await keep(redis, "b", "3", 14_000)
    await cast("Any", redis).delete("rollcall:t:1")

    assert await keep(redis, "c", "4", 12_000) == 0
    assert await kept(redis) == ["2", "3", "4"]


async def test_what_is_older_than_any_key_can_be_is_forgotten(redis: Redis) -> None:
    any_ = cast("Any", redis)
    await keep(redis, "a", "1", 5_000)
    await any_.delete("rollcall:t:1")
    await any_.zadd(BOUNDS.index("a"), {"rollcall:t:1": 1})

    await keep(redis, "a", "2", 5_000)

    assert await any_.zrange(BOUNDS.index("a"), 0, -1) == [b"rollcall:t:2"]
    size = await any_.memory_usage("rollcall:t:2")
    assert await any_.zscore(BOUNDS.shared_indexes[0], "a") == size


@pytest.mark.parametrize(("lost", "left"), [("", ["1", "2", "3"]), (":bytes", ["2", "3"])])
async def test_what_is_lost_of_an_index_is_measured_again(
    redis: Redis, lost: str, left: list[str]
) -> None:
    await keep(redis, "a", "1", 8_000)
    await keep(redis, "a", "2", 8_000)
    await cast("Any", redis).delete(BOUNDS.index("a") + lost)

    await keep(redis, "a", "3", 8_000)

    assert await kept(redis) == left
