-- Keep an answer for a while, if there is room for it; what has expired makes room first.
-- ARGV: key, for how long (ms), its size, the most that all may have, the answer.
-- Returns {"kept"} or {"full"}.
local DROPPED_MAX = 100
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for _, key in ipairs(redis.call("ZRANGEBYSCORE", EXPIRY, "-inf", now, "LIMIT", 0, DROPPED_MAX)) do
  drop(key)
end
if redis.call("EXISTS", EXPIRY) == 0 then
  -- A server that evicts keys may have dropped one of the two.
  redis.call("DEL", SIZES)
end

local key, size = ARGV[1], tonumber(ARGV[3])
local kept = redis.call("HMGET", SIZES, TOTAL, key)
if tonumber(kept[1] or 0) - tonumber(kept[2] or 0) + size > tonumber(ARGV[4]) then
  return { "full" }
end
drop(key)
redis.call("SET", tag .. "e:" .. key, ARGV[5], "PX", ARGV[2])
redis.call("ZADD", EXPIRY, now + tonumber(ARGV[2]), key)
redis.call("HSET", SIZES, key, ARGV[3])
redis.call("HINCRBY", SIZES, TOTAL, ARGV[3])
return { "kept" }
