"""The line of organisations' runs: they wait here, and come into arq's queue as slots fall free.

So nothing else ever waits behind them, however many they are. In Redis, beside arq's own queue:

- `rollcall:queue:collections`: runs by when they were queued plus what their organisation's last
  run took (ms): who is slow waits in proportion
- `…:slow`: the same, of organisations whose last run was long: at most half of the slots are theirs
- `…:later`: runs that were put off, by the instant from which they may start
- `…:admitted`: runs that were let into arq's queue, until they have ended
- `…:workers`: each worker and how many such runs it does at once, by when that was last heard

The bodies are arq's own job keys. What expires here, or is lost, a sweep tells again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms, to_unix_ms

from app.queue import BATCH, WAKE, Script

LINE = "rollcall:queue:collections"
LONG = 60.0  # seconds of an organisation's last run from which it counts as slow
KEPT_MS = 86_400_000

# ARGV: line, prefix of jobs, TTL, then id, score, which line, TTL of the body and body of each.
_PUT = Script("""
local line, prefix = ARGV[1], ARGV[2]
local put = 0
for i = 4, #ARGV, 5 do
  local id = ARGV[i]
  local known = redis.call('EXISTS', prefix .. id) == 1
    and (redis.call('ZSCORE', KEYS[1], id) or redis.call('ZSCORE', line, id)
         or redis.call('ZSCORE', line .. ':slow', id) or redis.call('ZSCORE', line .. ':later', id))
  if not known then
    redis.call('SET', prefix .. id, ARGV[i + 4], 'PX', ARGV[i + 3])
    redis.call('ZADD', line .. ARGV[i + 2], ARGV[i + 1], id)
    put = put + 1
  end
end
for _, which in ipairs({'', ':slow', ':later'}) do
  redis.call('PEXPIRE', line .. which, ARGV[3])
end
return put
""")

# ARGV: line, prefix of jobs, wake channel, now, TTL, id of a run that has just ended or ''.
_ADMIT = Script("""
local line, prefix, now = ARGV[1], ARGV[2], tonumber(ARGV[4])
local admitted, workers = line .. ':admitted', line .. ':workers'
redis.call('ZREM', admitted, ARGV[6])
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
local slots = 0
for _, worker in ipairs(redis.call('ZRANGE', workers, 0, -1)) do
  slots = slots + tonumber(string.match(worker, '^%d+'))
end
local open, slow = 0, 0
local held = redis.call('ZRANGE', admitted, 0, -1, 'WITHSCORES')
for i = 1, #held, 2 do
  if redis.call('ZSCORE', KEYS[1], held[i]) then
    open, slow = open + 1, slow + tonumber(held[i + 1])
  else
    redis.call('ZREM', admitted, held[i])
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', line .. ':later', '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', line .. ':later', id)
  redis.call('ZADD', line, now, id)
end
local most_slow, moved = math.max(1, math.floor(slots / 2)), 0
while open < slots do
  local quick = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  local long = {}
  if slow < most_slow then long = redis.call('ZRANGE', line .. ':slow', 0, 0, 'WITHSCORES') end
  local which, id, is_slow = '', quick[1], 0
  if long[1] and (not id or tonumber(long[2]) < tonumber(quick[2])) then
    which, id, is_slow = ':slow', long[1], 1
  end
  if not id then break end
  redis.call('ZREM', line .. which, id)
  if redis.call('EXISTS', prefix .. id) == 1 then
    redis.call('ZADD', KEYS[1], now - 1, id)
    redis.call('ZADD', admitted, is_slow, id)
    open, slow, moved = open + 1, slow + is_slow, moved + 1
  end
end
redis.call('PEXPIRE', admitted, ARGV[5])
redis.call('PEXPIRE', line, ARGV[5], 'NX')
if moved > 0 then redis.call('PUBLISH', ARGV[3], '') end
return moved
""")

# ARGV: line, prefix of jobs, ids. A job without its entry never starts, an entry without its job
# is none.
_KNOWN = Script("""
local line, prefix, known = ARGV[1], ARGV[2], {}
for i = 3, #ARGV do
  local id = ARGV[i]
  known[i - 2] = redis.call('EXISTS', prefix .. id) == 1
    and (redis.call('ZSCORE', KEYS[1], id) or redis.call('ZSCORE', line, id)
         or redis.call('ZSCORE', line .. ':slow', id) or redis.call('ZSCORE', line .. ':later', id))
    and 1 or 0
end
return known
""")

_OFFER = Script("""
redis.call('ZADD', ARGV[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', ARGV[1], ARGV[4])
""")

_WITHDRAW = Script("return redis.call('ZREM', ARGV[1], ARGV[2])")


@dataclass(frozen=True, slots=True)
class Waiter:
    """A run that is to wait its turn. `took`: seconds of its organisation's last run.

    `until`: it must not start before that instant (aware).
    """

    function: str
    args: Sequence[object]
    job_id: str
    took: float = 0.0
    until: datetime | None = None


async def put(redis: ArqRedis, waiters: Iterable[Waiter]) -> int:
    """Let runs wait in line, 500 to a round trip; returns how many were not there yet."""
    entries = [_entry(redis, waiter) for waiter in waiters]
    fresh = 0
    for start in range(0, len(entries), BATCH):
        flat = [part for entry in entries[start : start + BATCH] for part in entry]
        answer = await _PUT(redis, redis.default_queue_name, LINE, job_key_prefix, KEPT_MS, *flat)
        fresh += int(answer)
    return fresh


def _entry(redis: ArqRedis, waiter: Waiter) -> tuple[str | bytes | int, ...]:
    now = timestamp_ms()
    body = serialize_job(
        waiter.function, tuple(waiter.args), {}, None, now, serializer=redis.job_serializer
    )
    if waiter.until is not None:
        until = to_unix_ms(waiter.until)
        return waiter.job_id, until, ":later", max(until - now, 0) + KEPT_MS, body
    which = ":slow" if waiter.took > LONG else ""
    return waiter.job_id, now + round(waiter.took * 1000), which, KEPT_MS, body


async def admit(redis: ArqRedis, ended: str = "") -> int:
    """Let the first in line into arq's queue, as many as there are free slots; returns how many.

    `ended`: the id of an admitted run whose slot has just fallen free.
    """
    now = timestamp_ms()
    args = (LINE, job_key_prefix, WAKE, now, KEPT_MS, ended)
    return int(await _ADMIT(redis, redis.default_queue_name, *args))


async def known(redis: ArqRedis, job_ids: Sequence[str]) -> list[bool]:
    """For each, in order, whether it waits in arq's queue or here, with its body."""
    answers: list[bool] = []
    for start in range(0, len(job_ids), BATCH):
        some = job_ids[start : start + BATCH]
        answer = await _KNOWN(redis, redis.default_queue_name, LINE, job_key_prefix, *some)
        answers += [one == 1 for one in cast("list[int]", answer)]
    return answers


async def offer(redis: ArqRedis, worker: str, slots: int, seconds: float) -> None:
    """Say that this worker does so many of these runs at once, which holds for `seconds`."""
    until = timestamp_ms() + round(seconds * 1000)
    args = (f"{LINE}:workers", until, f"{slots} {worker}", KEPT_MS)
    await _OFFER(redis, redis.default_queue_name, *args)


async def withdraw(redis: ArqRedis, worker: str, slots: int) -> None:
    """Say that this worker takes no more of them."""
    await _WITHDRAW(redis, redis.default_queue_name, f"{LINE}:workers", f"{slots} {worker}")


async def length(redis: ArqRedis) -> int:
    """How many wait, those put off among them."""
    names = (LINE, f"{LINE}:slow", f"{LINE}:later")
    return sum([int(await redis.zcard(name)) for name in names])
