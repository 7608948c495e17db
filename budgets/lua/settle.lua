-- Replace a reservation by the true cost and emit the spend event, in one step.
-- Needs no counter: one that is missing is loaded later from ledger, stream and reservations.
-- ARGV: generation, not_after, id, amount, admitted (0: unknown), path, event, tombstone_ms.
-- Returns {"settled"|"again", stream id, recorded position}, {"late"} or {"closed"}.
if closed(ARGV[1]) then
  return { "closed" }
end
if now_ms() > tonumber(ARGV[2]) then
  return { "late" }
end
local id, amount, admitted, path = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local tombstone = redis.call("GET", tombstone_of(id))
local orphaned = tombstone and string.match(tombstone, "^orphaned (%d+)$")
if tombstone and not orphaned then
  return { "again", tombstone, position() }
end
-- Admitted 0: the gateway does not know, as after a reserve whose outcome it never learned.
admitted = orphaned or admitted
if admitted == "0" then
  admitted = as_text(now_ms())
end

local held = redis.call("HMGET", reservation_of(id), "amount", "admitted", "path")
if held[1] then
  admitted, path = held[2], held[3]
  -- Freeing comes first: a full store lets the rest of the script pass then.
  redis.call("DEL", reservation_of(id))
  redis.call("ZREM", OPEN, id)
  for account in each_account(path) do
    add(account, "r", tonumber(admitted), negative(held[1]))
  end
end
for account in each_account(path) do
  add(account, "s", tonumber(admitted), amount)
end
local entry = redis.call("XADD", STREAM, "*", "id", id, "amount", amount, "admitted", admitted,
  "path", path, "kind", "usage", "event", ARGV[7])
redis.call("SET", tombstone_of(id), entry, "PX", ARGV[8])
return { "settled", entry, position() }
