-- Reserve again, without a limit check, what a lost store has forgotten of a request in flight.
-- ARGV: generation, id, then the reservation's fields and values. Returns {"held"}, {"kept"} (it
-- is there), {"ended"} or {"closed"}.
if lost(ARGV[1]) then
  return { "closed" }
end
local id = ARGV[2]
if redis.call("EXISTS", tombstone_of(id)) == 1 then
  return { "ended" }
end
if redis.call("EXISTS", reservation_of(id)) == 1 then
  return { "kept" }
end
redis.call("HSET", reservation_of(id), unpack(ARGV, 3))
local held = redis.call("HMGET", reservation_of(id), unpack(RESERVATION))
redis.call("ZADD", OPEN, redis.call("HGET", reservation_of(id), "deadline"), id)
add(held[3], tonumber(held[2]), { r = held[1], e = held[4], p = "1" })
return { "held" }
