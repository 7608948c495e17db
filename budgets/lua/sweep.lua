-- Settle at what it holds, as an orphan, a reservation whose deadline passed or whose gateway
-- process is gone.
-- ARGV: generation, id, tombstone_ms, then the members that are alive.
-- Returns {"orphaned"}, {"kept"}, {"ended"} or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
local id = ARGV[2]
local held = redis.call("HMGET", reservation_of(id), unpack(RESERVATION))
if not held[1] then
  redis.call("ZREM", OPEN, id)
  return { "ended" }
end
local more = redis.call("HMGET", reservation_of(id), "deadline", "member", "event", "held")
local alive = false
for i = 4, #ARGV do
  alive = alive or ARGV[i] == more[2]
end
if alive and now_ms() < tonumber(more[1]) then
  return { "kept" }
end
free(id, held, more[4])
redis.call("XADD", STREAM, "*", "id", id, "amount", more[4], "admitted", held[2],
  "path", held[3], "kind", "orphan", "event", more[3])
-- The admission goes along: who released the request may never have learned it.
redis.call("SET", tombstone_of(id), "orphaned " .. held[2], "PX", ARGV[3])
return { "orphaned" }
