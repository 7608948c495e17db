-- Drop answers: those of the keys, or where none is given some of those that there are.
-- ARGV: keys. Returns {how many there were}.
local DROPPED_MAX = 500
local keys = ARGV
if #keys == 0 then
  keys = redis.call("ZRANGE", EXPIRY, 0, DROPPED_MAX - 1)
end
local dropped = 0
for _, key in ipairs(keys) do
  if drop(key) or #ARGV == 0 then
    dropped = dropped + 1
  end
end
return { string.format("%.0f", dropped) }
