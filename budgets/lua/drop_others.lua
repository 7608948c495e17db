-- Drop the reservations of a member that it no longer has in flight, as after a store that was
-- rolled back to before they ended; only those admitted before an instant (a late packet must
-- not meet what came after it).
-- ARGV: generation, member, before_ms, then the ids that it has. Returns {"dropped", how many}
-- or {"closed"}.
if lost(ARGV[1]) then
  return { "closed" }
end
local kept, dropped = {}, 0
for i = 4, #ARGV do
  kept[ARGV[i]] = true
end
for _, id in ipairs(redis.call("ZRANGE", OPEN, 0, -1)) do
  if not kept[id] and redis.call("HGET", reservation_of(id), "member") == ARGV[2] then
    local held = redis.call("HMGET", reservation_of(id), unpack(RESERVATION))
    if tonumber(held[2]) < tonumber(ARGV[3]) then
      free(id, held, "0")
      dropped = dropped + 1
    end
  end
end
return { "dropped", as_text(dropped) }
