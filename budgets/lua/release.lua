-- End a reservation whose request was never sent: nothing is charged.
-- ARGV: generation, not_after, id, tombstone_ms.
-- Returns {"released"}, {"again"} (it had ended), {"unknown"} (no such reservation, or it was
-- swept: settle it at 0), {"late"} or {"closed"}.
if lost(ARGV[1]) then
  return { "closed" }
end
if now_ms() > tonumber(ARGV[2]) then
  return { "late" }
end
local id = ARGV[3]
local tombstone = redis.call("GET", tombstone_of(id))
if tombstone and string.sub(tombstone, 1, 8) == "orphaned" then
  return { "unknown" }
end
if tombstone then
  return { "again" }
end
local held = redis.call("HMGET", reservation_of(id), unpack(RESERVATION))
if not held[1] then
  return { "unknown" }
end
free(id, held, "0")
correct_tokens(held, "0")
redis.call("SET", tombstone_of(id), "0-0", "PX", ARGV[4])
return { "released" }
