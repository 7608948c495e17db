-- Drop counters that no longer equal their ledger; the next reserve loads them anew.
-- ARGV: generation, revision, then accounts. Returns {"dropped"} or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
if tonumber(ARGV[2]) > tonumber(redis.call("HGET", MARK, "revision") or 0) then
  redis.call("HSET", MARK, "revision", ARGV[2])
end
for i = 3, #ARGV do
  redis.call("DEL", counter_of(ARGV[i]))
end
return { "dropped" }
