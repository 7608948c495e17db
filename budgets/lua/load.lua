-- Make the counter of one account and period: ledger total, plus what the stream holds above the
-- recorded position, plus what open reservations hold. The only way a counter comes to be.
-- ARGV: generation, account, start, end (both "" for the requests in flight, which have no
-- period), total, position, revision, unrecorded_max, idle_ms.
-- Returns {"loaded"}, {"again"} (read the total anew), {"wait"} (for the recorder) or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
local account, first, last = ARGV[2], ARGV[3], ARGV[4]
local key, period = counter_of(account), first .. ":" .. last

local function each_open(found)
  for _, id in ipairs(redis.call("ZRANGE", OPEN, 0, -1)) do
    local held = redis.call("HMGET", reservation_of(id), unpack(RESERVATION))
    if held[1] and string.find(held[3], account, 1, true) then
      found(held)
    end
  end
end

if first == "" then
  if redis.call("HEXISTS", key, "p") == 0 then
    local open = 0
    each_open(function()
      open = open + 1
    end)
    redis.call("HSET", key, "p", as_text(open))
    redis.call("PEXPIRE", key, ARGV[9])
  end
  return { "loaded" }
end

if redis.call("HEXISTS", key, "s:" .. period) == 1 then
  return { "loaded" }
end
local mark = redis.call("HMGET", MARK, "position", "revision")
if before(ARGV[6], mark[1] or "0-0") or tonumber(ARGV[7]) < tonumber(mark[2] or 0) then
  return { "again" }
end
local limit = tonumber(ARGV[8])
local entries = redis.call("XRANGE", STREAM, "(" .. ARGV[6], "+", "COUNT", limit + 1)
if #entries > limit then
  return { "wait" }
end

local now = now_ms()
for _, field in ipairs(redis.call("HKEYS", key)) do
  local ended = string.match(field, "^%a:%d+:(%d+)$")
  if ended and tonumber(ended) + tonumber(ARGV[9]) < now then
    redis.call("HDEL", key, field)
  end
end
local function is_within(admitted)
  local at = tonumber(admitted)
  return tonumber(first) <= at and at < tonumber(last)
end
redis.call("HSET", key, "s:" .. period, ARGV[5], "r:" .. period, "0", "e:" .. period, "0")
for _, entry in ipairs(entries) do
  local event = {}
  for i = 1, #entry[2], 2 do
    event[entry[2][i]] = entry[2][i + 1]
  end
  if is_within(event.admitted) and string.find(event.path, account, 1, true) then
    redis.call("HINCRBY", key, "s:" .. period, event.amount)
  end
end
each_open(function(held)
  if is_within(held[2]) then
    redis.call("HINCRBY", key, "r:" .. period, held[1])
    redis.call("HINCRBY", key, "e:" .. period, held[4])
  end
end)
redis.call("PEXPIRE", key, ARGV[9])
return { "loaded" }
