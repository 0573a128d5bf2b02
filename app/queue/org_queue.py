"""The queue of organisations' runs, which enter arq's queue as slots become free.

However many there are, nothing else waits behind them. Sorted sets in Redis, beside arq's queue:

- `rollcall:queue:collections`: runs by the time they were queued plus the duration of their
  organisation's last run (ms), so that slow organisations wait in proportion
- `…:slow`: the same for organisations whose last run was long; they get at most half of the slots
- `…:later`: deferred runs, by the instant from which they may start
- `…:admitted`: runs moved to arq's queue, until they end
- `…:workers`: each worker's slots for such runs, by when that announcement expires

All instants are by Redis' clock.
The bodies are arq's own job keys. A run that expires here, or is lost, is requeued by a sweep.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import cast
from uuid import UUID

from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms

from app.queue.jobs import BATCH_SIZE, WAKE_CHANNEL, Script
from app.store.runs.run_rows import QueuedRun

ORG_QUEUE = "rollcall:queue:collections"
SLOW_SECONDS = 60.0  # seconds; an organisation whose last run took longer counts as slow
ENTRY_TTL_MS = 86_400_000
MAX_WAIT_MS = 60_000  # of a due run in the queue
NO_DURATIONS: Mapping[UUID, float] = MappingProxyType({})

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# Adds runs not queued yet. ARGV: queue, job key prefix, TTL (ms); then for each: id, score less the
# present time (ms), suffix of the queue, TTL of the body (ms), body. Returns how many were added.
_ADD = Script(
    _NOW
    + """
local queue, prefix = ARGV[1], ARGV[2]
local added = 0
for i = 4, #ARGV, 5 do
  local id = ARGV[i]
  local queued = redis.call('EXISTS', prefix .. id) == 1
    and (redis.call('ZSCORE', KEYS[1], id) or redis.call('ZSCORE', queue, id)
         or redis.call('ZSCORE', queue .. ':slow', id)
         or redis.call('ZSCORE', queue .. ':later', id))
  if not queued then
    redis.call('SET', prefix .. id, ARGV[i + 4], 'PX', ARGV[i + 3])
    redis.call('ZADD', queue .. ARGV[i + 2], now + ARGV[i + 1], id)
    added = added + 1
  end
end
for _, suffix in ipairs({'', ':slow', ':later'}) do
  redis.call('PEXPIRE', queue .. suffix, ARGV[3])
end
return added
"""
)

# Moves runs to arq's queue while there are free slots. ARGV: queue, job key prefix, wake channel,
# TTL (ms), id of a run that has just ended or ''. Returns how many were moved.
_ADMIT = Script(
    _NOW
    + """
local queue, prefix = ARGV[1], ARGV[2]
local admitted, workers = queue .. ':admitted', queue .. ':workers'
redis.call('ZREM', admitted, ARGV[5])
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
local slots = 0
for _, worker in ipairs(redis.call('ZRANGE', workers, 0, -1)) do
  local announced = tonumber(string.match(worker, '^(%d%d?%d?%d?) '))
  if announced then slots = slots + announced else redis.call('ZREM', workers, worker) end
end
local running, slow = 0, 0
local entries = redis.call('ZRANGE', admitted, 0, -1, 'WITHSCORES')
for i = 1, #entries, 2 do
  if redis.call('ZSCORE', KEYS[1], entries[i]) then
    running, slow = running + 1, slow + (entries[i + 1] == '1' and 1 or 0)
  else
    redis.call('ZREM', admitted, entries[i])
  end
end
local due = redis.call('ZRANGEBYSCORE', queue .. ':later', '-inf', now, 'LIMIT', 0, 1000)
for _, id in ipairs(due) do
  redis.call('ZREM', queue .. ':later', id)
  redis.call('ZADD', queue, now, id)
end
local max_slow, moved, looked = math.max(1, math.floor(slots / 2)), 0, 0
while running < slots and looked < 5000 do
  looked = looked + 1
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  local slow_head = {}
  if slow < max_slow then slow_head = redis.call('ZRANGE', queue .. ':slow', 0, 0, 'WITHSCORES') end
  local suffix, id, is_slow = '', head[1], 0
  if slow_head[1] and (not id or tonumber(slow_head[2]) < tonumber(head[2])) then
    suffix, id, is_slow = ':slow', slow_head[1], 1
  end
  if not id then break end
  redis.call('ZREM', queue .. suffix, id)
  if redis.call('EXISTS', prefix .. id) == 1 then
    redis.call('ZADD', KEYS[1], now - 1, id)
    redis.call('ZADD', admitted, is_slow, id)
    running, slow, moved = running + 1, slow + is_slow, moved + 1
  end
end
redis.call('PEXPIRE', admitted, ARGV[4])
redis.call('PEXPIRE', queue, ARGV[4], 'NX')
if moved > 0 then redis.call('PUBLISH', ARGV[3], '') end
return moved
"""
)

# ARGV: queue, job key prefix, longest wait (ms), ids of runs that are due. Returns 1 or 0 for each:
# a run is queued only if both its body and its queue entry exist, and if it starts soon. It does
# not if Redis' clock was set back, or if another wrote the entry.
_ARE_QUEUED = Script(
    _NOW
    + """
local queue, prefix, queued = ARGV[1], ARGV[2], {}
local function soon(key, id)
  local score = tonumber(redis.call('ZSCORE', key, id) or nil)
  return score and score < now + ARGV[3]
end
for i = 4, #ARGV do
  local id = ARGV[i]
  queued[i - 3] = redis.call('EXISTS', prefix .. id) == 1
    and (soon(KEYS[1], id) or soon(queue .. ':later', id)
         or redis.call('ZSCORE', queue, id) or redis.call('ZSCORE', queue .. ':slow', id))
    and 1 or 0
end
return queued
"""
)

_ANNOUNCE = Script(
    _NOW
    + """
redis.call('ZADD', ARGV[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', ARGV[1], ARGV[4])
"""
)

_WITHDRAW = Script("return redis.call('ZREM', ARGV[1], ARGV[2])")


async def add_runs(
    redis: ArqRedis,
    runs: Iterable[QueuedRun],
    last_run_seconds: Mapping[UUID, float] = NO_DURATIONS,
    defer_by: float = 0.0,
) -> int:
    """Add runs to the queue, 500 per round trip; returns how many were not queued yet.

    `last_run_seconds`: by run id, the seconds that its organisation's last run took. None starts
    for `defer_by` seconds.
    """
    entries = [_entry(redis, run, last_run_seconds.get(run.run_id, 0.0), defer_by) for run in runs]
    added = 0
    for start in range(0, len(entries), BATCH_SIZE):
        flat = [part for entry in entries[start : start + BATCH_SIZE] for part in entry]
        answer = await _ADD(
            redis, redis.default_queue_name, ORG_QUEUE, job_key_prefix, ENTRY_TTL_MS, *flat
        )
        added += int(answer)
    return added


def _entry(
    redis: ArqRedis, run: QueuedRun, seconds: float, defer_by: float
) -> tuple[str | bytes | int, ...]:
    body = serialize_job(
        run.task, (str(run.run_id),), {}, None, timestamp_ms(), serializer=redis.job_serializer
    )
    if defer_by > 0:
        delay = math.ceil(defer_by * 1000)
        return run.arq_id, delay, ":later", delay + ENTRY_TTL_MS, body
    suffix = ":slow" if seconds > SLOW_SECONDS else ""
    return run.arq_id, round(seconds * 1000), suffix, ENTRY_TTL_MS, body


async def admit_runs(redis: ArqRedis, ended: str = "") -> int:
    """Move runs to arq's queue, as many as there are free slots; returns how many were moved.

    `ended`: the id of an admitted run that has just ended and freed its slot.
    """
    args = (ORG_QUEUE, job_key_prefix, WAKE_CHANNEL, ENTRY_TTL_MS, ended)
    return int(await _ADMIT(redis, redis.default_queue_name, *args))


async def are_queued(redis: ArqRedis, job_ids: Sequence[str]) -> list[bool]:
    """For each arq job id of a due run, in order: is it queued, here or in arq's queue?

    An entry that will only be due in more than a minute does not count.
    """
    answers: list[bool] = []
    for start in range(0, len(job_ids), BATCH_SIZE):
        batch = job_ids[start : start + BATCH_SIZE]
        answer = await _ARE_QUEUED(
            redis, redis.default_queue_name, ORG_QUEUE, job_key_prefix, MAX_WAIT_MS, *batch
        )
        answers += [flag == 1 for flag in cast("list[int]", answer)]
    return answers


async def announce_slots(redis: ArqRedis, worker: str, slots: int, seconds: float) -> None:
    """Announce how many of these runs this worker executes at once, valid for `seconds`."""
    valid_ms = round(seconds * 1000)
    args = (f"{ORG_QUEUE}:workers", valid_ms, f"{slots} {worker}", ENTRY_TTL_MS)
    await _ANNOUNCE(redis, redis.default_queue_name, *args)


async def withdraw_slots(redis: ArqRedis, worker: str, slots: int) -> None:
    """Withdraw this worker's slots: it takes no more of these runs."""
    await _WITHDRAW(redis, redis.default_queue_name, f"{ORG_QUEUE}:workers", f"{slots} {worker}")


async def length(redis: ArqRedis) -> int:
    """The number of waiting runs, deferred ones included."""
    names = (ORG_QUEUE, f"{ORG_QUEUE}:slow", f"{ORG_QUEUE}:later")
    return sum([int(await redis.zcard(name)) for name in names])
