-- Mirror what the ledger's transaction has recorded, then trim the stream up to it.
-- ARGV: generation, position, revision ("" while counters wait to be reloaded).
-- Returns {"mirrored"} or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
local recorded = position()
if before(recorded, ARGV[2]) then
  recorded = ARGV[2]
end
-- Trim first: when the store is full, only a script that begins by freeing may go on to write.
local ms, sequence = string.match(recorded, "^(%d+)-(%d+)$")
redis.call("XTRIM", STREAM, "MINID", ms .. "-" .. as_text(tonumber(sequence) + 1))
redis.call("HSET", MARK, "position", recorded)
local revision = tonumber(redis.call("HGET", MARK, "revision") or 0)
if ARGV[3] ~= "" and tonumber(ARGV[3]) > revision then
  redis.call("HSET", MARK, "revision", ARGV[3])
end
return { "mirrored" }
