"""Bounds of the caches in Redis whose size a tenant or a site may choose.

Each owner has an index of its keys, oldest first, which is bounded in number and bytes. What all
tenants have together is bounded too: the largest tenant's keys are removed first, so that none can
displace those of another, and none those of the operator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis

HOUSE = ""  # the operator, as an owner
UNKNOWN = "unknown"  # the owner of keys whose owner is not known yet

# KEYS: the owner's index, the bytes of each tenant, the index of keys without a known owner. ARGV:
# owner, most keys, most bytes, most bytes of all tenants, lifetime (s) of the index, beginning of
# the names of indexes, the keys that were written. Returns how many keys were removed.
_BOUND = """
local owner, removed = ARGV[1], 0
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function size(key)
  return redis.call('EXISTS', key) == 1 and redis.call('MEMORY', 'USAGE', key) or nil
end
for i = 7, #ARGV do
  redis.call('ZADD', KEYS[1], now, ARGV[i])
  if KEYS[3] ~= KEYS[1] then redis.call('ZREM', KEYS[3], ARGV[i]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
local kept, total = {}, 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local bytes = size(key)
  if bytes then
    kept[#kept + 1] = {key, bytes}
    total = total + bytes
  else
    redis.call('ZREM', KEYS[1], key)
  end
end
local first = 1
while first <= #kept and (#kept - first >= tonumber(ARGV[2]) or total > tonumber(ARGV[3])) do
  redis.call('UNLINK', kept[first][1])
  redis.call('ZREM', KEYS[1], kept[first][1])
  total, removed, first = total - kept[first][2], removed + 1, first + 1
end
if owner == '' then return removed end
redis.call('ZADD', KEYS[2], total, owner)
redis.call('EXPIRE', KEYS[2], ARGV[5])
local all = 0
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if redis.call('EXISTS', ARGV[6] .. tenant) == 1 then
    all = all + tonumber(redis.call('ZSCORE', KEYS[2], tenant))
  else
    redis.call('ZREM', KEYS[2], tenant)
  end
end
while all > tonumber(ARGV[4]) do
  local largest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if not largest[1] then break end
  for _, key in ipairs(redis.call('ZRANGE', ARGV[6] .. largest[1], 0, -1)) do
    removed = removed + redis.call('UNLINK', key)
  end
  redis.call('DEL', ARGV[6] .. largest[1])
  redis.call('ZREM', KEYS[2], largest[1])
  all = all - tonumber(largest[2])
end
return removed
"""


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """What each owner may have in one cache, in keys and bytes, and all tenants together."""

    name: str
    seconds: int  # the longest lifetime of a key
    house: tuple[int, int]
    tenant: tuple[int, int]
    all_tenants: int

    def index(self, owner: str) -> str:
        """Return the key of the index of an owner's keys."""
        return f"rollcall:cached:{self.name}:of:{owner}"

    @property
    def shared_indexes(self) -> tuple[str, str]:
        """The keys of the bytes of each tenant, and of the index of those of unknown owners."""
        return f"rollcall:cached:{self.name}:tenants", self.index(UNKNOWN)

    async def apply(self, redis: Redis, owner: str, written: Sequence[str]) -> int:
        """Index the keys that were written, and remove what is past the bounds.

        Returns how many keys were removed. Raises RedisError.
        """
        keys, size = self.tenant if owner else self.house
        names = [self.index(owner), *self.shared_indexes]
        args = [owner, keys, size, self.all_tenants, self.seconds, self.index(""), *written]
        return int(await cast("Any", redis).eval(_BOUND, len(names), *names, *args))
