-- What both scripts begin with. KEYS[1] is the hash tag of the cache's keys.
-- Which answers there are stands in two keys, by when they expire and by size: so that the sum of
-- all sizes is known, also of those that the server has dropped by itself since.
local tag = KEYS[1]
local EXPIRY, SIZES = tag .. "expiry", tag .. "sizes"
local TOTAL = "total"

local function drop(key)
  redis.call("DEL", tag .. "e:" .. key)
  redis.call("ZREM", EXPIRY, key)
  local size = redis.call("HGET", SIZES, key)
  if size then
    redis.call("HDEL", SIZES, key)
    redis.call("HINCRBY", SIZES, TOTAL, "-" .. size)
  end
  return size
end
