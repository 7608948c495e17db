-- Make the counter of one account and period: ledger total, plus what the stream holds above the
-- recorded position, plus what open reservations hold. The only way a counter comes to be.
-- ARGV: generation, account, start, end, total, position, revision, unrecorded_max, idle_ms.
-- Returns {"loaded"}, {"again"} (read the total anew), {"wait"} (for the recorder) or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
local account, first, last = ARGV[2], ARGV[3], ARGV[4]
local key, period = counter_of(account), first .. ":" .. last
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
  if tonumber(ended) + tonumber(ARGV[9]) < now then
    redis.call("HDEL", key, field)
  end
end
local function holds(admitted, path)
  local at = tonumber(admitted)
  return tonumber(first) <= at and at < tonumber(last) and string.find(path, account, 1, true)
end
redis.call("HSET", key, "s:" .. period, ARGV[5], "r:" .. period, "0")
for _, entry in ipairs(entries) do
  local event = {}
  for i = 1, #entry[2], 2 do
    event[entry[2][i]] = entry[2][i + 1]
  end
  if holds(event.admitted, event.path) then
    redis.call("HINCRBY", key, "s:" .. period, event.amount)
  end
end
for _, id in ipairs(redis.call("ZRANGE", OPEN, 0, -1)) do
  local held = redis.call("HMGET", reservation_of(id), "amount", "admitted", "path")
  if held[1] and holds(held[2], held[3]) then
    redis.call("HINCRBY", key, "r:" .. period, held[1])
  end
end
redis.call("PEXPIRE", key, ARGV[9])
return { "loaded" }
