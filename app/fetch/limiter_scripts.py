"""The Lua scripts of the rate limiter, and the Redis keys they use.

Times are microseconds of Redis' own clock, so workers' clocks need not agree. Keys of each host:
`rollcall:limit:<host>` (hash: rate, retries, breaker), `…:slots` (tokens of requests in flight,
scored by the end of their lease), `…:waiting` (workers that wait for a slot, scored by their last
call), `…:waiting:<worker>` (a list that wakes one worker) and `…:workers`. The same keys exist for
each tenant (`rollcall:limit:<host>:of:<tenant>`) and for what tenants share of a host
(`rollcall:limit:<host>:tenants`). `rollcall:limit:hosts:<owner>` holds the hosts that a tenant has
requested in the last hour, with what tells their credentials. Key of each worker with
heartbeats: `rollcall:limit:alive:<worker>`; its slots name that key and are free once it expires.
`rollcall:limit:resting` (hosts whose breaker is open, scored by the end) serves metrics only; no
decision reads it, nor `rollcall:limit:retried` (the operator's hosts, scored by their last retry).
All keys have a TTL.
"""

from app.fetch import breaker, rates, retry

MICRO = 1_000_000
GO, TOO_LONG, RESTING, SPENT, BUSY, CROWDED = range(6)
TENANT_SHARE = 0.25  # of a built-in site's rate and slots, for all tenants together
TENANT_HOSTS = 100  # hosts, each with its credentials, that one tenant may request in an hour

OPEN_BREAKERS_KEY = "rollcall:limit:resting"
RETRIED_KEY = "rollcall:limit:retried"
_MOST_RESTS = 1_000  # hosts

_KEEP = 2 * 3_600_000  # milliseconds; longer than any open breaker, cool-down or counted hour
_KEEP_SITE = 7 * 86_400_000  # milliseconds; the limits of a built-in site, which tenants go by
_COMMON = """
local function clock(ahead)
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2] + tonumber(ahead)
end
local function keep(key, milliseconds)
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end
local function whole(number) return string.format('%.0f', number) end
local function wake(waiting, count)
  for _, worker in ipairs(redis.call('ZRANGE', waiting, 0, count - 1)) do
    local wakeups = waiting .. ':' .. worker
    redis.call('LPUSH', wakeups, 1)
    redis.call('LTRIM', wakeups, 0, 0)
    redis.call('PEXPIRE', wakeups, 5000)
  end
end
"""

# Decides on several requests of one worker: grants them in order until one is refused.
# KEYS: hash, slots, waiting, workers; then for the operator the hash and slots of the tenants'
# share, for the share those of the operator, for a tenant the set of its hosts; the seventh holds
# the operator's retried hosts. ARGV: ahead, interval, tolerance, patience, worker, concurrency,
# lease, token, number of requests, whether retries, role (operator, share, tenant), host, tokens to
# release …
# Returns: verdict on the first refused one (or GO), its wait, slowed, failures counted,
# retries left, contended, kind, and the wait of each granted one. The nth has token:n.
# While tenants request a host, the operator's interval is longer by what their share takes.
ENTER = (
    _COMMON
    + """
local now = clock(ARGV[1])
local interval, tolerance = tonumber(ARGV[2]), tonumber(ARGV[3])
local patience, worker, concurrency = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local lease, retries, role = tonumber(ARGV[7]), ARGV[10] == '1', ARGV[11]
if #ARGV > 12 then redis.call('ZREM', KEYS[2], unpack(ARGV, 13)) end
local taken = 0
if role == 'operator' then
  redis.call('HSET', KEYS[1], 'interval', ARGV[2], 'concurrency', ARGV[6])
  keep(KEYS[1], @SITE)
  if tonumber(redis.call('HGET', KEYS[5], 'due') or 0) > now - 10000000 then
    interval = interval / (1 - @TENANTS)
    redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
    taken = math.min(redis.call('ZCARD', KEYS[6]), math.floor(concurrency * @TENANTS))
  end
elseif role == 'share' then
  local site = redis.call('HMGET', KEYS[5], 'interval', 'concurrency')
  if site[1] then
    interval, tolerance = tonumber(site[1]) / @TENANTS, 0
    concurrency = math.max(1, math.floor(tonumber(site[2]) * @TENANTS))
  end
else
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - 3600000000)
  if redis.call('ZCARD', KEYS[5]) >= @HOSTS and not redis.call('ZSCORE', KEYS[5], ARGV[12]) then
    return {5, 600000000, 0, 0, 0, 0, ''}
  end
  redis.call('ZADD', KEYS[5], now, ARGV[12])
  redis.call('PEXPIRE', KEYS[5], 3600000)
end
concurrency = concurrency - taken
local h = redis.call('HMGET', KEYS[1], 'due', 'closed', 'slow', 'hour', 'asked', 'again',
                     'failures', 'until', 'probe', 'kind', 'slowed_at', 'eased_at')
local slow, open = tonumber(h[3] or 1), tonumber(h[8] or 0)
local eased = math.max(tonumber(h[11] or 0), tonumber(h[12] or 0))
local halvings = math.floor((now - eased) / @HALVING)
if slow > 1 and halvings > 0 then
  slow = math.max(slow / 2 ^ halvings, 1)
  eased = eased + halvings * @HALVING
  redis.call('HSET', KEYS[1], 'slow', tostring(slow), 'eased_at', whole(eased))
end
local hour = math.floor(now / 3600000000)
local asked, again = 0, 0
if tonumber(h[4] or -1) == hour then asked, again = tonumber(h[5] or 0), tonumber(h[6] or 0) end
local function allowed() return math.max(@FLOOR, math.floor(asked * @SHARE)) end

redis.call('ZADD', KEYS[4], now, worker)
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - 60000000)
redis.call('PEXPIRE', KEYS[4], 120000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - 2500000)
local used, queued = redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3])
local waited = queued > 0 and redis.call('ZSCORE', KEYS[3], worker)
local ahead = waited and 0 or queued
local probing = open > 0 and h[9] and redis.call('ZSCORE', KEYS[2], h[9])
local due, closed = math.max(tonumber(h[1] or 0), now), tonumber(h[2] or 0)

if used + ahead >= concurrency then
  for _, token in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    local owner = string.match(token, '^(.+)|')
    if owner and redis.call('EXISTS', owner) == 0 then
      redis.call('ZREM', KEYS[2], token)
      used = used - 1
    end
  end
end

local waits, slots, verdict, refused = {}, {}, 0, 0
for n = 1, tonumber(ARGV[9]) do
  local at = due
  if closed > math.max(at - tolerance, now) then at = closed + tolerance end
  local wait = math.max(at - tolerance - now, 0)
  if now < open then
    verdict, refused = 2, open - now
  elseif retries and again >= allowed() then
    verdict = 3
  elseif wait > patience then
    verdict, refused = 1, wait
  elseif used + ahead >= concurrency or probing then
    verdict = 4
  end
  if verdict > 0 then break end
  local token = ARGV[8] .. ':' .. n
  if open > 0 then
    probing = true
    redis.call('HSET', KEYS[1], 'probe', token)
  end
  due, used, asked = at + interval * slow, used + 1, asked + 1
  if retries then again = again + 1 end
  waits[n] = math.ceil(wait)
  slots[2 * n - 1] = now + wait + lease
  slots[2 * n] = token
end

if #waits > 0 then
  redis.call('HSET', KEYS[1], 'due', whole(due), 'hour', hour, 'asked', asked, 'again', again)
  keep(KEYS[1], @KEEP)
  if retries and role == 'operator' then
    redis.call('ZADD', KEYS[7], now, ARGV[12])
    redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', now - 3600000000)
    redis.call('PEXPIRE', KEYS[7], @KEEP)
  end
  redis.call('ZADD', KEYS[2], unpack(slots))
  redis.call('PEXPIRE', KEYS[2], math.ceil((slots[#slots - 1] - now) / 1000) + 120000)
end
if verdict == 4 then
  redis.call('ZADD', KEYS[3], now, worker)
  redis.call('PEXPIRE', KEYS[3], 10000)
elseif waited then
  redis.call('ZREM', KEYS[3], worker)
end
if queued > 0 then wake(KEYS[3], #ARGV - 12) end
return {verdict, math.ceil(refused), slow > 1 and 1 or 0,
        (open > 0 or tonumber(h[7] or 0) > 0) and 1 or 0,
        again < allowed() and 1 or 0, queued, h[10] or '', unpack(waits)}
""".replace("@FLOOR", str(retry.MIN_RETRIES))
    .replace("@SHARE", str(retry.RETRY_SHARE))
    .replace("@KEEP", str(_KEEP))
    .replace("@SITE", str(_KEEP_SITE))
    .replace("@TENANTS", str(TENANT_SHARE))
    .replace("@HOSTS", str(TENANT_HOSTS))
    .replace("@HALVING", str(int(rates.HALVING_SECONDS * MICRO)))
)

# Releases slots. KEYS: slots, waiting. ARGV: tokens to release.
FREE = (
    _COMMON
    + """
redis.call('ZREM', KEYS[1], unpack(ARGV))
wake(KEYS[2], #ARGV)
return {1}
"""
)

# Records a hard failure. KEYS: hash, waiting, resting. ARGV: ahead, token, kind, whether it was a
# retry, host (empty for a tenant, whose breakers are no metric). Returns: the open time if it
# opened the breaker, else 0.
FAILED = (
    _COMMON
    + """
local now = clock(ARGV[1])
local h = redis.call('HMGET', KEYS[1], 'failures', 'until', 'probe', 'rest')
local rest
if tonumber(h[2] or 0) > 0 then
  if h[3] ~= ARGV[2] then return {0} end
  rest = math.min(tonumber(h[4]) * 2, @LONGEST)
elseif ARGV[4] == '1' then
  return {0}
else
  local failures = tonumber(h[1] or 0) + 1
  redis.call('HSET', KEYS[1], 'failures', failures)
  keep(KEYS[1], @KEEP)
  if failures < @FAILURES then return {0} end
  rest = @FIRST
end
redis.call('HSET', KEYS[1], 'until', whole(now + rest), 'rest', whole(rest), 'kind', ARGV[3])
redis.call('HDEL', KEYS[1], 'probe')
keep(KEYS[1], @KEEP)
if ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[3], now + rest, ARGV[5])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -@MOST - 1)
  redis.call('PEXPIRE', KEYS[3], @KEEP)
end
wake(KEYS[2], 1000)
return {rest}
""".replace("@LONGEST", str(int(breaker.MAX_OPEN_SECONDS * MICRO)))
    .replace("@FIRST", str(int(breaker.FIRST_OPEN_SECONDS * MICRO)))
    .replace("@FAILURES", str(breaker.FAILURES))
    .replace("@MOST", str(_MOST_RESTS))
    .replace("@KEEP", str(_KEEP))
)

# Closes the breaker. KEYS: hash, waiting, resting. ARGV: host, and the token, or empty to reset the
# breaker whatever its state.
ANSWERED = (
    _COMMON
    + """
local h = redis.call('HMGET', KEYS[1], 'until', 'probe')
if ARGV[2] ~= '' and tonumber(h[1] or 0) > 0 and h[2] ~= ARGV[2] then return {0} end
redis.call('HDEL', KEYS[1], 'failures', 'until', 'rest', 'kind', 'probe')
redis.call('ZREM', KEYS[3], ARGV[1])
wake(KEYS[2], 1000)
return {1}
"""
)

# Slows a host down. KEYS: hash. ARGV: ahead, time closed, hold (microseconds), largest slowdown.
PENALISE = (
    _COMMON
    + """
local now = clock(ARGV[1])
local h = redis.call('HMGET', KEYS[1], 'closed', 'slow', 'slowed_at')
local slow = tonumber(h[2] or 1)
if now - tonumber(h[3] or 0) >= tonumber(ARGV[3]) then
  slow = math.min(slow * 2, tonumber(ARGV[4]))
  redis.call('HSET', KEYS[1], 'slow', tostring(slow), 'slowed_at', whole(now))
end
local closed = math.max(tonumber(h[1] or 0), now + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'closed', whole(closed))
keep(KEYS[1], math.max(math.ceil((closed - now) / 1000) + 3600000, @KEEP))
return {1}
""".replace("@KEEP", str(_KEEP))
)

# Speeds a slowed host up. KEYS: hash. ARGV: the factor for the slowed interval.
EASE = """
local slow = tonumber(redis.call('HGET', KEYS[1], 'slow') or 1)
if slow > 1 then
  redis.call('HSET', KEYS[1], 'slow', tostring(math.max(slow * tonumber(ARGV[1]), 1)))
end
return {1}
"""

PENALTY_INTERVAL_MICROS = int(rates.PENALTY_INTERVAL * MICRO)


def limit_key(host: str) -> str:
    """The key of the operator's hash of a host."""
    return f"rollcall:limit:{host}"
