"""Bounds of the caches in Redis whose size a tenant or a site may choose.

Each owner has an index of its keys, oldest first, which is bounded in number and bytes. What all
tenants have together is bounded too: the largest tenant's keys are removed first, so that none can
displace those of another, and none those of the operator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis

OPERATOR = ""  # the operator, as an owner
UNKNOWN = "unknown"  # the owner of keys whose owner is not known yet

# KEYS: the owner's index, the bytes of each tenant, the index of keys without a known owner. ARGV:
# owner, most keys, most bytes, most bytes of all tenants, lifetime (s) of the index, beginning of
# the names of indexes, the keys that were written. Returns how many keys were removed.
# Only the keys that were written are measured: `<index>:bytes` holds the bytes of each key of an
# index, and their total.
_BOUND = """
local index, bytes, owner, removed = KEYS[1], KEYS[1] .. ':bytes', ARGV[1], 0
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function forget(from, key)
  redis.call('ZREM', from, key)
  local known = redis.call('ZSCORE', from .. ':bytes', key)
  if known then
    redis.call('ZREM', from .. ':bytes', key)
    redis.call('ZINCRBY', from .. ':bytes', -known, 'total')
  end
end
local function measure(key)
  local size = redis.call('MEMORY', 'USAGE', key)
  if not size then return forget(index, key) end
  redis.call('ZINCRBY', bytes, size - (redis.call('ZSCORE', bytes, key) or 0), 'total')
  redis.call('ZADD', bytes, size, key)
end
local function total(of)
  return tonumber(redis.call('ZSCORE', of .. ':bytes', 'total') or 0)
end
local function is_over()
  return redis.call('ZCARD', index) > tonumber(ARGV[2]) or total(index) > tonumber(ARGV[3])
end
local function forget_missing(from)
  local keys = redis.call('ZRANGE', from, 0, -1)
  for first = 1, #keys, 1000 do
    local last = math.min(first + 999, #keys)
    if redis.call('EXISTS', unpack(keys, first, last)) <= last - first then
      for i = first, last do
        if redis.call('EXISTS', keys[i]) == 0 then forget(from, keys[i]) end
      end
    end
  end
end
local expired = string.format('%.0f', now - ARGV[5] * 1000000)
for _, key in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', expired)) do forget(index, key) end
for i = 7, #ARGV do
  redis.call('ZADD', index, now, ARGV[i])
  measure(ARGV[i])
  if KEYS[3] ~= index then forget(KEYS[3], ARGV[i]) end
end
if redis.call('ZCARD', bytes) ~= redis.call('ZCARD', index) + 1 then  -- one of them was lost
  redis.call('DEL', bytes)
  for _, key in ipairs(redis.call('ZRANGE', index, 0, -1)) do measure(key) end
end
if is_over() then forget_missing(index) end
while is_over() do
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest then break end
  redis.call('UNLINK', oldest)
  forget(index, oldest)
  removed = removed + 1
end
redis.call('EXPIRE', index, ARGV[5])
redis.call('EXPIRE', bytes, ARGV[5])
if owner == '' then return removed end
redis.call('ZADD', KEYS[2], total(index), owner)
redis.call('EXPIRE', KEYS[2], ARGV[5])
local function bytes_of_all()
  local all, tenants = 0, redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
  for i = 2, #tenants, 2 do all = all + tonumber(tenants[i]) end
  return all
end
local all = bytes_of_all()
if all > tonumber(ARGV[4]) then  -- not with those whose keys have all expired
  for _, tenant in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if redis.call('EXISTS', ARGV[6] .. tenant) == 0 then redis.call('ZREM', KEYS[2], tenant) end
  end
  all = bytes_of_all()
end
while all > tonumber(ARGV[4]) do
  local largest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if not largest[1] then break end
  local tenant, noted, of = largest[1], tonumber(largest[2]), ARGV[6] .. largest[1]
  forget_missing(of)
  local present = total(of)
  if present == 0 or present >= noted then
    for _, key in ipairs(redis.call('ZRANGE', of, 0, -1)) do
      removed = removed + redis.call('UNLINK', key)
    end
    redis.call('DEL', of, of .. ':bytes')
    redis.call('ZREM', KEYS[2], tenant)
    present = 0
  else
    redis.call('ZADD', KEYS[2], present, tenant)
  end
  all = all - noted + present
end
return removed
"""


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """What each owner may have in one cache, in keys and bytes, and all tenants together."""

    name: str
    seconds: int  # the longest lifetime of a key
    operator: tuple[int, int]
    tenant: tuple[int, int]
    all_tenants: int

    def index(self, owner: str) -> str:
        """Return the key of the index of an owner's keys."""
        return f"rollcall:cached:{self.name}:of:{owner}"

    @property
    def shared_indexes(self) -> tuple[str, str]:
        """The keys of the bytes of each tenant, and of the index of those of unknown owners."""
        return f"rollcall:cached:{self.name}:tenants", self.index(UNKNOWN)

    @property
    def shared_bytes(self) -> str:
        """The key of the bytes of each key of an unknown owner, and of their `total`."""
        return f"{self.index(UNKNOWN)}:bytes"

    async def apply(self, redis: Redis, owner: str, written: Sequence[str]) -> int:
        """Index the keys that were written, and remove what is past the bounds.

        Returns how many keys were removed. Raises RedisError.
        """
        keys, size = self.tenant if owner else self.operator
        names = [self.index(owner), *self.shared_indexes]
        args = [owner, keys, size, self.all_tenants, self.seconds, self.index(""), *written]
        return int(await cast("Any", redis).register_script(_BOUND)(keys=names, args=args))
