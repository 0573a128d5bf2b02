"""Scripts that claim, defer, renew, release and finish jobs in arq's queue, by Redis' clock."""

from app.queue.jobs import Script

# Claims up to `room` due jobs, of the given ids or else from the head of the queue, and counts the
# try; up to `runs` of those that are no cron jobs. ARGV: prefixes of claims, jobs and tries, token,
# lease (ms), room, horizon (ms from now), most ids to read, runs, number of names of cron jobs,
# these names, ids.
# Returns the claimed jobs (id, score, body or nil, number of the try, id, …), those due within the
# horizon (id, score, id, …), whether more due jobs wait, and the present time (ms).
CLAIM = Script("""
local prefix, jobs, tries, token, lease = unpack(ARGV, 1, 5)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room, horizon = tonumber(ARGV[6]), now + tonumber(ARGV[7])
local runs, names = tonumber(ARGV[9]), tonumber(ARGV[10])
local ids, claimed, later, more, offset = {unpack(ARGV, 11 + names)}, {}, {}, 0, 0
local full, scan, crons = false, #ids == 0, {}
for i = 11, 10 + names do crons[ARGV[i]] = true end
local function read()
  ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', horizon, 'LIMIT', offset, ARGV[8])
  offset = offset + #ids
end
local function start(id, score)
  redis.call('SET', prefix .. id, token, 'PX', lease)
  local body, number = redis.pcall('GET', jobs .. id), redis.pcall('INCR', tries .. id)
  if type(body) == 'table' then body = false end
  if type(number) == 'table' then
    redis.call('SET', tries .. id, 1)
    number = 1
  end
  redis.call('EXPIRE', tries .. id, 88400)
  for _, value in ipairs({id, score, body, number}) do claimed[#claimed + 1] = value end
end
local function claim(id)
  local cron = crons[id:match('^(.*):%d+$')]
  if scan and more == 1 and not cron then return false end
  local score = tonumber(redis.call('ZSCORE', KEYS[1], id) or nil)
  if score and score > now then
    if score <= horizon then
      later[#later + 1] = id
      later[#later + 1] = score
    end
  elseif score and redis.call('EXISTS', prefix .. id) == 0 then
    if room == 0 then
      more = 1
      return true
    end
    if not cron then
      if runs == 0 then
        more = 1
        return false
      end
      runs = runs - 1
    end
    start(id, score)
    room = room - 1
  end
  return false
end
if scan then read() end
while #ids > 0 and not full do
  for _, id in ipairs(ids) do
    full = claim(id)
    if full then break end
  end
  -- Behind entries that others hold there may be free ones.
  ids = {}
  if scan and not full and more == 0 and offset < 20 * ARGV[8] then read() end
end
return {claimed, later, more, now}
""")

# Defers a job that is in the queue. ARGV: its id, delay (ms).
DEFER = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
""")

# Renews this worker's claims. ARGV: prefix, token, lease (ms), ids.
RENEW = Script("""
for i = 4, #ARGV do
  if redis.pcall('GET', ARGV[1] .. ARGV[i]) == ARGV[2] then
    redis.call('PEXPIRE', ARGV[1] .. ARGV[i], ARGV[3])
  end
end
""")

# Releases this worker's claims at the head of the queue, except those of the given ids; their tries
# do not count. ARGV: prefixes of claims and tries, token, index of the last entry to read, ids.
RELEASE = Script("""
local keep = {}
for i = 5, #ARGV do keep[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[4])) do
  if not keep[id] and redis.pcall('GET', ARGV[1] .. id) == ARGV[3] then
    redis.call('DEL', ARGV[1] .. id, ARGV[2] .. id)
  end
end
""")

# Removes a finished job whose result is not kept. ARGV: its id, and its keys.
FINISH = Script("""
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', unpack(ARGV, 2))
""")
