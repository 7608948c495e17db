-- Settle at the reserved amount, as an orphan, a reservation whose deadline passed or whose
-- gateway process is gone.
-- ARGV: generation, id, tombstone_ms, then the members that are alive.
-- Returns {"orphaned"}, {"kept"}, {"ended"} or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
local id = ARGV[2]
local held = redis.call("HMGET", reservation_of(id), "amount", "admitted", "deadline", "member", "path", "event")
if not held[1] then
  redis.call("ZREM", OPEN, id)
  return { "ended" }
end
local alive = false
for i = 4, #ARGV do
  alive = alive or ARGV[i] == held[4]
end
if alive and now_ms() < tonumber(held[3]) then
  return { "kept" }
end
redis.call("DEL", reservation_of(id))
redis.call("ZREM", OPEN, id)
for account in each_account(held[5]) do
  add(account, "r", tonumber(held[2]), negative(held[1]))
  add(account, "s", tonumber(held[2]), held[1])
end
redis.call("XADD", STREAM, "*", "id", id, "amount", held[1], "admitted", held[2],
  "path", held[5], "kind", "orphan", "event", held[6])
-- The admission goes along: who released the request may never have learned it.
redis.call("SET", tombstone_of(id), "orphaned " .. held[2], "PX", ARGV[3])
return { "orphaned" }
